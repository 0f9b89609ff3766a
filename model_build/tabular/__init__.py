"""Builds one XGBoost churn model per state for a multi-model endpoint."""
