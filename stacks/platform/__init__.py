"""Stacks that every deployment has, whatever its workloads."""
