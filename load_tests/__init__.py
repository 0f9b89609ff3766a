"""Drives endpoints and measures what their clients see."""
