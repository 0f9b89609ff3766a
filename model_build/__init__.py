"""Model builds, run by CodeBuild: one package per workload, and the packaging of artifacts."""
