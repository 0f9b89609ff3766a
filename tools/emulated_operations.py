"""List the operations that the pinned MiniStack answers, from its source.

`python -m tools.emulated_operations` writes `local_aws/api/emulated.json`, which the local account enforces. Run it
after an update of MiniStack.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from botocore.loaders import Loader

from local_aws.account import ROOT, default_cache
from local_aws.api.services import EMULATED_FILE, MODULES
from local_aws.environments import environment


def answered(source: Path) -> dict[str, list[str]]:
    """Return the operations by service. source: folder of the package `ministack`.

    MiniStack selects the handler of an operation by its name: from a table, or in a comparison.
    """
    found = {}
    for service, module in MODULES.items():
        folder = source / "services" / module
        paths = sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        names = {name for path in paths for name in _names(ast.parse(path.read_text()))}
        found[service] = sorted(names & Loader().load_service_model(service, "service-2")["operations"].keys())
    return found


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            values = [*node.keys]
        elif isinstance(node, ast.Compare):
            values = [each for side in (node.left, *node.comparators) for each in (side, *getattr(side, "elts", ()))]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def source() -> Path:
    """Return the folder of the installed package, and install the emulator's environment on first use."""
    folder = environment(default_cache(), "emulator", ROOT / "local_aws/requirements.txt")
    return next(folder.glob("lib/python*/site-packages/ministack"))


def rendered(operations: dict[str, list[str]]) -> str:
    """Return the content of the file."""
    return json.dumps(operations, indent=1) + "\n"


def main() -> None:
    """Write the file."""
    EMULATED_FILE.write_text(rendered(answered(source())))


if __name__ == "__main__":
    main()
