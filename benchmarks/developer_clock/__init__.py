"""Measure how long a developer waits: for synthesis, and for a whole deployment into the local account."""
