"""tabular's container beside Multi Model Server, and its endpoint under hours of traffic."""
