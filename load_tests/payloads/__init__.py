"""Request payloads of load tests, by kind of workload, and their file format."""
