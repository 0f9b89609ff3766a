"""Builds of the encoder with sanitizers, and their driver."""
