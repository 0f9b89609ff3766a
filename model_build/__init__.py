"""What CodeBuild runs: one package per workload, and the artifact's manifest and packaging."""
