"""Decision report that compares load tests of every variant."""
