"""Images that are really built and run: by Podman, without a daemon, and without a registry if none is reachable."""
