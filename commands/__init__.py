"""The `inference` command line: one module per command, for the local account and for AWS alike."""
