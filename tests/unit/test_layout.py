"""The shape of the repository: files that fit a reader, imports without cycles, and one adapter to MiniStack."""

import ast
import subprocess
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "benchmarks", "commands", "containers", "dashboards", "load_tests", "local_aws", "model_build", "sizing", "stacks",
    "tools",
)  # fmt: skip
MOST_LINES = 450
ADAPTER = ROOT / "local_aws/emulator/ministack"


def python_files() -> list[Path]:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if tracked.returncode:
        pytest.skip("this is no checkout of git")
    return [ROOT / name for name in tracked.stdout.splitlines() if (ROOT / name).exists()]


def imports_ministack(path: Path) -> bool:
    """Whether a file imports MiniStack, or a part of it, anywhere."""
    text = path.read_text()
    if "ministack" not in text:
        return False
    nodes = list(ast.walk(ast.parse(text)))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return any(module.partition(".")[0] == "ministack" for module in modules)


def test_no_file_has_more_lines_than_a_reader_keeps_in_mind() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    cyclic = [
        module
        for module in graph.modules
        if any(graph.chain_exists(imported, module) for imported in graph.find_modules_directly_imported_by(module))
    ]
    assert cyclic == []


def test_only_the_adapter_imports_ministack() -> None:
    importing = [path for path in python_files() if imports_ministack(path)]
    assert [str(path.relative_to(ROOT)) for path in importing if path.parent != ADAPTER] == []
    assert importing != [], "nothing imports MiniStack any more"
