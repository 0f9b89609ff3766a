"""churn_mme's container beside Multi Model Server: load time, latency, memory and answers."""
