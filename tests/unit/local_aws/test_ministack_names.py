"""The emulator lists the names that it uses of MiniStack, and refuses to start with a MiniStack that lacks one."""

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

from local_aws.account import ROOT
from local_aws.emulator.ministack import names
from local_aws.emulator.ministack.names import NAMES, MissingNamesError, check

ADAPTER = ROOT / "local_aws/emulator/ministack"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """MiniStack's modules, replaced by some that have the listed names and nothing else."""
    monkeypatch.setattr(names, "version", lambda _: "9.9.9")
    parents = {module.rpartition(".")[0] for module in NAMES} | {"ministack"}
    modules = {name: ModuleType(name) for name in parents | NAMES.keys()}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        for attribute in NAMES.get(name, ()):
            setattr(module, attribute, None)
    for parent in parents:
        modules[parent].__path__ = []
    return modules


def used(path: Path) -> set[str]:
    """Every name that a module takes from a module of MiniStack, which it imports as a whole."""
    tree = ast.parse(path.read_text())
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    ministack = {alias: name for alias, name in modules.items() if name.startswith("ministack.")}
    return {
        f"{ministack[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ministack
    }


def test_the_list_holds_exactly_the_names_that_the_adapter_uses() -> None:
    listed = {f"{module}.{name}" for module, members in NAMES.items() for name in members}
    assert set().union(*map(used, ADAPTER.glob("*.py"))) == listed


@pytest.mark.usefixtures("installed")
def test_a_ministack_with_all_names_passes() -> None:
    check()


def test_a_missing_name_is_reported_in_one_line_with_the_installed_version(installed: dict[str, ModuleType]) -> None:
    del installed["ministack.services.ecs"]._docker
    with pytest.raises(MissingNamesError) as error:
        check()
    assert str(error.value).startswith("MiniStack 9.9.9 does not have ministack.services.ecs._docker: ")
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("installed")
def test_a_missing_module_is_reported_like_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ministack.services.ecs")
    with pytest.raises(MissingNamesError, match=r"does not have ministack\.services\.ecs: "):
        check()
