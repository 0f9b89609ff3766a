"""What MiniStack lacks for a SageMaker deployment; runs in the emulator's own environment."""
