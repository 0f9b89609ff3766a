"""Additions to MiniStack for a SageMaker deployment; this package runs in the emulator's own environment."""
