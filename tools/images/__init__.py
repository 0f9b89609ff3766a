"""Checks of every image: built from its Dockerfile, run as SageMaker or ECS would, called, and stopped."""
