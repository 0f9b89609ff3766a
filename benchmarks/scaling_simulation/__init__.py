"""Compare the autoscaling simulation with the local account's real scaling, and its two modes and their speed."""
