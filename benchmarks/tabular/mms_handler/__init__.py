"""Folder on the PYTHONPATH of Multi Model Server's workers."""
