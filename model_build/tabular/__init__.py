"""The build of the tabular workload: one XGBoost churn model per state, for a multi-model endpoint."""
