"""The CDK commands that demos run."""

import subprocess
import sys
import time
from pathlib import Path

from local_aws.account import ROOT


class DemoError(RuntimeError):
    """A step of the demo failed; the message says which, and where its output is."""


def run(name: str, command: list[str], logs: Path) -> None:
    """Run a command with its output in `logs/NAME.log`; raises DemoError with the lines that say why it failed."""
    print(f"{name}: {' '.join(command)}", file=sys.stderr, flush=True)
    began = time.monotonic()
    log = logs / f"{name}.log"
    with log.open("ab") as output:
        done = subprocess.run(
            [*command, "--no-notices", "--progress", "events"] if name != "bootstrap" else [*command, "--no-notices"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        reasons = [line for line in log.read_text(errors="replace").splitlines() if "FAILED" in line or "❌" in line]
        raise DemoError(f"{name} failed: " + "\n".join(reasons[-4:] or [f"see {log.name}"]))
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
