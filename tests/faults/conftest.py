from collections.abc import Callable

import pytest

from tests.faults.load import Measured
from tests.local_account import account, folder, state

__all__ = ["account", "folder", "measured", "state"]

_MEASURED = pytest.StashKey[list[Measured]]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[Measured], None]:
    """Adds a line to the table at the end."""
    return request.config.stash.setdefault(_MEASURED, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (rows := config.stash.get(_MEASURED, [])):
        return
    terminalreporter.section("faults under load")
    line = "{:<52} {:>8} {:>8}  {:<46} {:<24} {:>10}".format
    terminalreporter.write_line(line("fault", "requests", "answered", "refused", "failed", "recovery"))
    for row in rows:
        refused, failed = (
            ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "0"
            for codes in (row.refused, row.failed)
        )
        seconds = f"{row.recovery_seconds:.1f} s"
        terminalreporter.write_line(line(row.fault, row.requests, row.answered, refused, failed, seconds))
