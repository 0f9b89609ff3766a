"""Find the best settings for a serving container by load-testing a real endpoint."""
