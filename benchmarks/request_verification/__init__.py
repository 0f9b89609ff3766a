"""What verifying signatures adds to a request to the local account, beside the same server without it."""
