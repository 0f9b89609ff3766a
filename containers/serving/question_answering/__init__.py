"""Extractive question answering around an encoder, shared by all images that answer questions."""
