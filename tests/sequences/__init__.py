"""Random edits of a deployment file, deployed one after the other into a local account."""
