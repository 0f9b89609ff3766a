"""CloudWatch dashboards as plain functions of settings, which return JSON values and use none of the CDK's types."""
