"""SageMaker hosting for real: endpoints whose replicas are running serving processes."""
