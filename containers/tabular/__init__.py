"""Serves the churn models of tabular from one multi-model endpoint."""
