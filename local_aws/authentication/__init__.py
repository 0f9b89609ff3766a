"""Who calls the local account: credentials, SigV4 signatures, and the layer that checks both before anything else."""
