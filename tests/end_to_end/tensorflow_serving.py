"""The fake of SageMaker's TensorFlow Serving container as a process, and small SavedModels of every kind for it."""

import contextlib
import json
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from containers.serving.contract import BASE_DIR_VARIABLE, HOST_VARIABLE, PORT_VARIABLE
from local_aws import fake_images
from local_aws.account import ROOT
from local_aws.processes import die_with_parent, free_port

ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
JSON = "application/json"
START_SECONDS = 120
_FAKE = fake_images.FAKES["tensorflow-inference"]
_MAKE = '''
import pathlib, sys
import tensorflow as tf
base = pathlib.Path(sys.argv[1])
v1 = tf.compat.v1

def half_plus(addend, folder):
    """TensorFlow 1, with tf.Example: x / 2 + addend as prediction, regression and classification."""
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, name="tf_example")
        features = tf.io.parse_example(serialized, {
            "x": tf.io.FixedLenFeature([1], tf.float32), "y": tf.io.FixedLenFeature([1], tf.float32, [0.0])})
        x = tf.identity(features["x"], name="x")
        y = tf.add(v1.get_variable("a", initializer=0.5) * x, v1.get_variable("b", initializer=addend))
        sum_ = tf.add(y, features["y"])
        labels = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1])
        scores = tf.concat([1 - tf.sigmoid(y), tf.sigmoid(y)], 1)
        session.run(v1.global_variables_initializer())
        info, signature = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        method = "tensorflow/serving/"
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={
            "serving_default": signature({"x": info(x)}, {"y": info(y)}, method + "predict"),
            "examples": signature({"examples": info(serialized)}, {"y": info(y)}, method + "predict"),
            method + "regress": signature({"inputs": info(serialized)}, {"outputs": info(sum_)}, method + "regress"),
            method + "classify": signature({"inputs": info(serialized)},
                {"classes": info(labels), "scores": info(scores)}, method + "classify"),
        })
        builder.save()

def save(folder, module, function, *specs):
    module.function = tf.function(function)
    tf.saved_model.save(module, str(folder), signatures=module.function.get_concrete_function(*specs))

half_plus(3.0, base / "half_plus/00000123")
half_plus(4.0, base / "half_plus/124")

dense = tf.Module()
dense.weights = tf.Variable([[1.0], [2.0]])
save(base / "dense/1", dense, lambda x, y: {"sum": x + y, "product": tf.matmul(x, dense.weights)},
     tf.TensorSpec((None, 2), tf.float32, "x"), tf.TensorSpec((None, 2), tf.float32, "y"))

words = tf.Module()
(base / "words.txt").write_text("cat\\ndog")
words.table = tf.lookup.StaticVocabularyTable(tf.lookup.TextFileInitializer(
    str(base / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
    tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER), 1)
save(base / "words/1", words,
     lambda word: {"number": words.table.lookup(word), "upper": tf.strings.upper(word), "raw_bytes": word},
     tf.TensorSpec((None,), tf.string, "word"))

edges = tf.Module()
edges.kernel = tf.Variable(tf.ones((3, 3, 3, 2)))
save(base / "edges/1", edges, lambda image: {"mean": tf.reduce_mean(tf.nn.conv2d(image, edges.kernel, 1, "SAME"))},
     tf.TensorSpec((None, 8, 8, 3), tf.float32, "image"))
'''


@dataclass(frozen=True)
class Program:
    """The interpreter that has TensorFlow, and a folder with the models `half_plus`, `dense`, `words` and `edges`."""

    python: str
    models: Path

    @classmethod
    def made(cls, folder: Path) -> "Program":
        """Install TensorFlow if it is missing, and save the models."""
        python, *_ = fake_images.neo_compiler(ROOT / ".cache")
        done = subprocess.run([python, "-c", _MAKE, str(folder)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return cls(python, folder)


@dataclass(frozen=True)
class Container:
    """A running container."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def send(self, method: str, path: str, body: Any = b"", **headers: str) -> httpx.Response:
        """Send a request whose body is sent as it is if it is bytes, else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, content=content, headers=given, timeout=60, trust_env=False)

    def invoke(self, body: Any, attributes: str, content_type: str = JSON, **headers: str) -> httpx.Response:
        """Send a request to /invocations."""
        return self.send("POST", "/invocations", body, content_type=content_type, **{ATTRIBUTES: attributes}, **headers)

    def wait_until_ready(self) -> None:
        """Wait for /ping."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx.TransportError):
                if self.send("GET", "/ping").status_code == 200:
                    return
            time.sleep(0.05)


def start(program: Program, folder: Path, variables: Mapping[str, str]) -> Container:
    """Start the container over `folder`, its /opt/ml."""
    port, scratch = free_port(), folder / "tmp"
    scratch.mkdir(parents=True)
    log = folder / "log"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        BASE_DIR_VARIABLE: str(folder),
        HOST_VARIABLE: "127.0.0.1",
        PORT_VARIABLE: str(port),
        **variables,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program.python, "-m", _FAKE.package, "serve"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, preexec_fn=die_with_parent,
        )  # fmt: skip
    return Container(process, port, log)


@contextlib.contextmanager
def running(program: Program, folder: Path, **variables: str) -> Iterator[Container]:
    """Run a container until the block ends, which it must do with exit code 0."""
    container = start(program, folder, variables)
    try:
        container.wait_until_ready()
        yield container
    finally:
        container.process.send_signal(signal.SIGTERM)
        code = container.process.wait(60)
    assert code == 0, container.log.read_text()[-3000:]


def wheel(folder: Path, module: str, content: str) -> Path:
    """Write a wheel with one module."""
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return path
