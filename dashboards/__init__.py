"""CloudWatch dashboards as plain functions of settings: JSON values in, none of the CDK's types."""
