"""Serving images: one package per image, and `serving`, the SageMaker contract they share."""
