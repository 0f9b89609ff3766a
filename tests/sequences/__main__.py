"""`python -m tests.sequences`: deploy random edits one after the other, and print the seed that repeats them."""

import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import typer

from tests.local_account import running_account
from tests.sequences.run import Sequence, deploy_in_process

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    steps: Annotated[int, typer.Option(min=1, help="edits to deploy")] = 500,
    seed: Annotated[int | None, typer.Option(min=0, help="repeats a sequence; default: a random one")] = None,
) -> None:
    """Deploy random edits of a deployment file into a local account of its own; exit with 1 at the first that fails."""
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    print(f"seed {seed}: repeat with scripts/sequences --seed {seed} --steps {steps}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sequences-") as name:
        folder = Path(name)
        with running_account(folder / "state", INFERENCE_LOCAL_TIME_SCALE="60"):
            sequence = Sequence(folder, seed, deploy_in_process)
            for step in range(steps):
                sequence.step()
                print(f"{time.monotonic() - began:7.0f} s  {step + 1:4d}  {sequence.done[-1]}", flush=True)
            sequence.destroy()
    print(f"{steps} steps, and nothing is left after destroy", file=sys.stderr)


if __name__ == "__main__":
    app()
