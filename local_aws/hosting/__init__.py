"""SageMaker hosting whose endpoints have real replicas: running serving processes."""
