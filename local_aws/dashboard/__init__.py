"""Web page that draws the account's CloudWatch dashboards."""
