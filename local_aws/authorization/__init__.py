"""Evaluation of IAM policies, as AWS documents it for requests within one account."""
