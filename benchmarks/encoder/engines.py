"""The engines to compare: how they are run, and where their models come from."""

import contextlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.builds import build
from benchmarks.encoder.lengths import LONGEST
from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines
from containers.serving.contract import MODEL_ARCHIVE
from local_aws.account import ROOT
from local_aws.environments import environment

REQUIREMENTS = Path(__file__).with_name("requirements-engines.txt")
"""Requirements of the build's environment, which includes most engines."""
RANDOM_WEIGHTS = {"kind": "random", "seed": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An engine with a model.

    kind: name of the engine in engine_worker.
    build: engine and precision of the model it runs; None for PyTorch's own.
    pad: length that every question is padded to; None for its own length up to the next multiple of `bucket`.
    masked: whether the attention mask marks padding; engines that compute the padding anyway are not affected.
    """

    name: str
    kind: str
    precision: str
    build: tuple[str, str] | None = None
    pad: int | None = None
    bucket: int = 1
    masked: bool = True


OURS, OURS_PADDED, REFERENCE = "vnni INT8", "vnni INT8, padded", "PyTorch eager FP32"
_VNNI_INT8 = ("vnni", "int8")
_OPENVINO_FP32, _OPENVINO_INT8 = ("openvino", "fp32"), ("openvino", "int8")
_ORT_FP32, _ORT_INT8 = ("onnxruntime", "fp32"), ("onnxruntime", "int8")
_INDUCTOR_FP32, _INDUCTOR_INT8 = ("inductor", "fp32"), ("inductor", "int8")
_IPEX_FP32, _IPEX_INT8 = ("ipex", "fp32"), ("ipex", "int8")
RIVALS: tuple[Rival, ...] = (
    Rival(name=OURS, kind="vnni", precision="int8", build=_VNNI_INT8),
    Rival(name="OpenVINO INT8", kind="openvino", precision="int8", build=_OPENVINO_INT8, bucket=16),
    Rival(name="OpenVINO INT8, rest BF16", kind="openvino_bf16", precision="int8", build=_OPENVINO_INT8, bucket=16),
    Rival(name="IPEX INT8", kind="ipex", precision="int8", build=_IPEX_INT8),
    Rival(name="ONNX Runtime INT8", kind="onnxruntime", precision="int8", build=_ORT_INT8),
    Rival(name="PyTorch Inductor INT8 (torchao)", kind="inductor", precision="int8", build=_INDUCTOR_INT8),
    Rival(name="CTranslate2 INT8", kind="ctranslate2", precision="int8", build=("ctranslate2", "int8")),
    Rival(name="OpenVINO FP32", kind="openvino", precision="fp32", build=_OPENVINO_FP32, bucket=16),
    Rival(name="ONNX Runtime FP32", kind="onnxruntime", precision="fp32", build=_ORT_FP32),
    Rival(name="PyTorch Inductor FP32", kind="inductor", precision="fp32", build=_INDUCTOR_FP32),
    Rival(name="IPEX FP32", kind="ipex", precision="fp32", build=_IPEX_FP32),
    Rival(name=REFERENCE, kind="eager", precision="fp32"),
    Rival(name=OURS_PADDED, kind="vnni", precision="int8", build=_VNNI_INT8, pad=LONGEST, masked=False),
    Rival(name="OpenVINO INT8, padded", kind="openvino", precision="int8", build=_OPENVINO_INT8, pad=LONGEST),
    Rival(name="OpenVINO FP32, padded", kind="openvino", precision="fp32", build=_OPENVINO_FP32, pad=LONGEST),
    Rival(name="ONNX Runtime FP32, padded", kind="onnxruntime", precision="fp32", build=_ORT_FP32, pad=LONGEST),
    Rival(name="TorchScript FP32, padded, as published", kind="script", precision="fp32", pad=LONGEST),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Models:
    """Folders of the models, by engine and precision, and the interpreter that has their engines.

    pythons: other interpreters, by kind of engine.
    left_out: one sentence for each kind without a model here.
    """

    python: Path
    folders: Mapping[tuple[str, str], Path]
    pythons: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def rivals(self) -> tuple[Rival, ...]:
        """Engines that can run."""
        return tuple(rival for rival in RIVALS if rival.build is None or rival.build in self.folders)


def make(cache: Path, folder: Path, engines: Sequence[str]) -> Models:
    """Build BERT-base's architecture with random weights for each engine, as CodeBuild does.

    Raises BenchmarkError or EnvironmentSetupError.
    """
    python = environment(cache, "bert-engines", REQUIREMENTS) / "bin/python"
    folders: dict[tuple[str, str], Path] = {}
    for engine in engines:
        built = build("encoder", {"engine": engine, "source": RANDOM_WEIGHTS}, cache)
        folders |= unpacked(built, engine, folder)
    return Models(python, folders)


def unpacked(built: Path, engine: str, folder: Path) -> dict[tuple[str, str], Path]:
    """Unpack both models of a build below `folder`, and return their folders."""
    folders = {}
    for precision in ("fp32", "int8"):
        folders[engine, precision] = folder / engine / precision
        with tarfile.open(built / precision / MODEL_ARCHIVE) as archive:
            archive.extractall(folders[engine, precision], filter="data")
    return folders


class Worker:
    """A running engine."""

    def __init__(self, rival: Rival, process: "subprocess.Popen[str]", log: Path) -> None:
        self.rival, self._process, self._log = rival, process, log

    def run(self, lengths: Sequence[int], *, rows: int = 1) -> list[float]:
        """Return the seconds of one batch of each length; raises BenchmarkError."""
        seconds: list[float] = self._ask(lengths, rows, masked=self.rival.masked, logits=False)["seconds"]
        return seconds

    def logits(self, lengths: Sequence[int]) -> list[list[float]]:
        """Return the start, then the end logits of every token, for one row of each length; raises BenchmarkError."""
        logits: list[list[float]] = self._ask(lengths, 1, masked=True, logits=True)["logits"]
        return logits

    def wait_ready(self) -> None:
        """Wait until the model is loaded; raises BenchmarkError."""
        self._read()

    def _ask(self, lengths: Sequence[int], rows: int, *, masked: bool, logits: bool) -> dict[str, Any]:
        shape = {"lengths": lengths, "rows": rows, "pad": self.rival.pad, "bucket": self.rival.bucket}
        request = shape | {"masked": masked, "logits": logits}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.rival.name} ended: {last_lines(self._log)}")
        response: dict[str, Any] = json.loads(line)
        return response


@contextlib.contextmanager
def running(rival: Rival, models: Models, threads: int, folder: Path) -> Iterator[Worker]:
    """Run the engine in a separate process, which ends with this one."""
    model = models.folders[rival.build] if rival.build is not None else folder
    log = folder / f"{rival.name}-{threads}.log".replace(" ", "-")
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OMP_")},
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(threads),
        "KMP_BLOCKTIME": "0",
        # A compiled model is unpacked there.
        "TMPDIR": str(folder),
    }
    python = models.pythons.get(rival.kind, models.python)
    command = [str(python), "-W", "ignore", "-m", "benchmarks.encoder.engine_worker"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, rival.kind, str(model), str(threads)],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        worker = Worker(rival, process, log)
        worker.wait_ready()
        yield worker
