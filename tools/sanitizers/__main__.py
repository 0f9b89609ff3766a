"""`python -m tools.sanitizers`: run the encoder under every sanitizer for minutes; exit code 1 for a finding."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tools.sanitizers.encoder import BUILDS, INSTALL, compile_driver, compiler, run_driver

_SLICE_SECONDS = 20


def main(arguments: list[str]) -> int:
    """Run every build that can be compiled here, and print progress."""
    parser = argparse.ArgumentParser(prog="python -m tools.sanitizers", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="seconds per sanitizer, excluding compilation")
    parser.add_argument("--seed", type=int, help="first seed (default: the clock, so every run tries new input)")
    chosen = parser.parse_args(arguments)
    if chosen.seconds < 1:
        parser.error(f"--seconds is {chosen.seconds}: it must be 1 or more")
    seed = chosen.seed if chosen.seed is not None else int(time.time())
    failed = False
    for build in BUILDS:
        if compiler(build) is None:
            print(f"{build.name}: skipped, {INSTALL}", flush=True)
            continue
        print(f"{build.name}: compiling", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            binary = compile_driver(build, Path(folder))
            for begin in range(0, chosen.seconds, _SLICE_SECONDS):
                seconds = min(_SLICE_SECONDS, chosen.seconds - begin)
                done = run_driver(binary, seed=seed, seconds=seconds)
                print(
                    f"{build.name}: seed {seed}, {begin + seconds} of {chosen.seconds} s, {done.stdout.strip()}",
                    flush=True,
                )
                if done.returncode:
                    print(f"{build.name}: seed {seed} ended with exit code {done.returncode}\n{done.stderr[-8000:]}")
                    failed = True
                    break
                seed += 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
