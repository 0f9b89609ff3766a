"""The image for load tests on Fargate: runs `load_tests.swarm` as master or worker."""
