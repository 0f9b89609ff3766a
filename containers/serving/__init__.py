"""The SageMaker container contract, shared by every image of this project."""
