from collections.abc import Callable

import pytest

from tests.faults.load import Measured
from tests.local_account import account, folder, state

__all__ = ["account", "folder", "measured", "state"]

_ROW = "fault under load"
_LINE = "{:<52} {:>8} {:>8}  {:<46} {:<24} {:>10}".format


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[Measured], None]:
    """Adds a line to the table at the end."""

    def add(row: Measured) -> None:
        refused, failed = (
            ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "0"
            for codes in (row.refused, row.failed)
        )
        seconds = f"{row.recovery_seconds:.1f} s"
        told = _LINE(row.fault, row.requests, row.answered, refused, failed, seconds)
        request.node.user_properties.append((_ROW, told))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    rows = [told for report in reports for name, told in report.user_properties if name == _ROW]
    if not rows:
        return
    terminalreporter.section("faults under load")
    terminalreporter.write_line(_LINE("fault", "requests", "answered", "refused", "failed", "recovery"))
    for told in rows:
        terminalreporter.write_line(told)
