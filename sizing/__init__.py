"""Prices, right-sizing and scaling simulation."""
