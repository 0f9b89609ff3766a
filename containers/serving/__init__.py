"""The SageMaker container contract that every image of this project serves by."""
