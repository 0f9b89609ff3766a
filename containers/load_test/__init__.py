"""The image of load tests on Fargate: `load_tests.swarm`, as master or worker."""
