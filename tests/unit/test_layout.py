"""The shape of the repository: files that fit a reader, and imports without cycles."""

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


def test_no_file_has_more_lines_than_a_reader_keeps_in_mind() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if tracked.returncode:
        pytest.skip("this is no checkout of git")
    paths = [ROOT / name for name in tracked.stdout.splitlines() if (ROOT / name).exists()]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    cyclic = [
        module
        for module in graph.modules
        if any(graph.chain_exists(imported, module) for imported in graph.find_modules_directly_imported_by(module))
    ]
    assert cyclic == []
