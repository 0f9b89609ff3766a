"""Authentication for the local account: credentials, SigV4 signatures, and the middleware that verifies them."""
