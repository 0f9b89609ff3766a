"""The load generator checked against a server of known behaviour, and what each of its clients can send."""
