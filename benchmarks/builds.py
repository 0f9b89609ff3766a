"""Run a workload's own build as CodeBuild does."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from local_aws.account import ROOT


def build(workload: str, recipe: Mapping[str, Any], cache: Path) -> Path:
    """Build a recipe, with the output on stderr, and return the folder of the results; raises BenchmarkError."""
    variables = {
        # A build that knows a bucket would upload to it.
        **{name: value for name, value in os.environ.items() if not name.startswith("ARTIFACT_")},
        "RECIPE": json.dumps(recipe),
        "INFERENCE_BUILD_CACHE": str(cache / "builds"),
    }
    command = ["bash", f"model_build/{workload}/codebuild.sh"]
    if subprocess.run(command, cwd=ROOT, env=variables, stdout=2, check=False).returncode:
        raise BenchmarkError(f"the build of {workload} failed; see its output above")
    return ROOT / "build" / workload
