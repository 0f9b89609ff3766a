"""Prices, and what a measured throughput costs."""
