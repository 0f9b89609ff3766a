"""Extractive question answering around an encoder, as every image that answers questions does it."""
