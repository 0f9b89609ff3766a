"""Every setting of a deployment and its default, one module per subject."""
