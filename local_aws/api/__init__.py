"""What the local account declares of AWS's APIs: each member of a request is supported, refused, or AWS's alone."""
