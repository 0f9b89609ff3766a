"""What an autoscaled endpoint does under a traffic trace: latency, errors, instances and cost."""
