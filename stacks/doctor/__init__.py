"""What would stop a deployment, or cost more than expected, found before it begins and with read permissions only."""
