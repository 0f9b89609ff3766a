"""The tabular image: serves the churn models from one multi-model endpoint."""
