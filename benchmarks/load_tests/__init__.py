"""Check the load generator against a server of known behavior, and measure what each of its clients can send."""
