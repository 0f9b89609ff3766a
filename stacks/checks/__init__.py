"""Rules that templates are checked against, and findings that are acknowledged with reasons."""
