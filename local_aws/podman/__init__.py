"""Images built and run for real: Podman without a daemon, and without a registry where there is none."""
