"""Every image built from its own Dockerfile, run as SageMaker or ECS would, asked, and stopped: scripts/images."""
