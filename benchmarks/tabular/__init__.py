"""Compare tabular's container with Multi Model Server, and run its endpoint under hours of traffic."""
