"""Shipped deployments and profiles with every workload named after its kind: no test depends on a shipped name."""

import atexit
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "deployments"
PROFILES = ROOT / "sizing/profiles.json"


@cache
def folder() -> Path:
    """Return a folder like `deployments/` with renamed workloads; it is deleted when the process ends."""
    made = Path(tempfile.mkdtemp(prefix="deployments-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    names = _names()
    for path in [*SHIPPED.rglob("*.yaml"), PROFILES]:
        text = path.read_text()
        for name, kind in names.items():
            text = re.sub(rf"(?<![\w/]){name}(?!\w)", kind, text)
        target = made / (path.name if path == PROFILES else path.relative_to(SHIPPED))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return made


def file(name: str) -> Path:
    """Return the renamed deployment file of a name."""
    return folder() / f"{name}.yaml"


def shipped_name(kind: str) -> str:
    """Return the name that shipped deployments give to a workload of a kind."""
    return next(name for name, of in _names().items() if of == kind)


def _names() -> dict[str, str]:
    """Return the kind of every workload of a shipped deployment, by its name."""
    return {
        name: workload["kind"]
        for path in SHIPPED.glob("*.yaml")
        for name, workload in yaml.safe_load(path.read_text())["workloads"].items()
    }
