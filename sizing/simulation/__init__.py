"""Simulation of an autoscaled endpoint under a traffic trace: latency, errors, instances and cost."""
