"""Serves the churn models of churn_mme from one multi-model endpoint."""
