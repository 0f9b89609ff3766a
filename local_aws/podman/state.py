"""Which local account a container belongs to, so that none outlives its account."""

from pathlib import Path

from local_aws.podman.engine import find

HOSTING, TASKS = "hosting", "tasks"
"""The processes of an account that start containers."""


def owner(process: str, state: Path) -> tuple[str, str]:
    """The label, name and value, of the containers that a process of an account starts."""
    return f"sagemaker-inference-stacks.{process}", str(state)


def remove_containers(cache: Path, state: Path, *processes: str) -> None:
    """Kills and removes what earlier processes of an account have left; nothing where there is no Podman."""
    podman = find(cache)
    for process in processes if podman is not None else ():
        assert podman is not None
        podman.remove_labelled("=".join(owner(process, state)))
