"""The autoscaling simulation beside the local account's real scaling, its two modes, and its speed."""
