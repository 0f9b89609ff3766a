"""Labels that tie a container to its local account, so none outlives the account."""

from pathlib import Path

from local_aws.podman.engine import find

HOSTING, TASKS = "hosting", "tasks"
"""Processes of an account that start containers."""


def owner(process: str, state: Path) -> tuple[str, str]:
    """Return the label, as name and value, of the containers that a process of an account starts."""
    return f"sagemaker-inference-stacks.{process}", str(state)


def remove_containers(cache: Path, state: Path, *processes: str) -> None:
    """Kill and remove containers left by earlier processes of an account; no-op without Podman."""
    podman = find(cache)
    for process in processes if podman is not None else ():
        assert podman is not None
        podman.remove_labelled("=".join(owner(process, state)))
