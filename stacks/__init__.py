"""One CDK stack per capability, composed by app.py from the settings of a deployment."""
