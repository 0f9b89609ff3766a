"""Local account: the same deployments, without an AWS account and without Docker."""
