"""Finds the settings of a serving container that pay, under load, on the real endpoint."""
