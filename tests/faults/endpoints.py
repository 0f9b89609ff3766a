"""Small endpoints for the fault suite: a server that does what it is told, and the real images' code."""

import io
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil
from PIL import Image

from containers.saved_model.signature import IMAGE_SIDE
from local_aws.account import ACCOUNT_ID, REGION, ROOT
from local_aws.hosting import images
from tests.local_account import endpoint_status, process_id

BUCKET, VARIANT = "faults-models", "AllTraffic"
# Answers with its model's name; "hog" takes memory that no limit here grants.
SERVER = """
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

name = Path(os.environ["SAGEMAKER_BASE_DIR"], "model/name.txt").read_bytes()
held = []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body == b"hog":
            held.append(bytearray(os.urandom(1 << 20)) * 400)
            time.sleep(30)
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


def packed(files: Mapping[str, bytes]) -> bytes:
    """A model.tar.gz of files by their names."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def packed_folder(folder: Path) -> bytes:
    """A model.tar.gz of a folder's files."""
    return packed({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def put(key: str, body: bytes) -> str:
    """Puts an object into the suite's bucket; gives its URL."""
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"


def save_images(state: Path, folder: Path) -> None:
    """Pushes the images `tiny`, and those of tabular and saved_model as they run here."""
    (folder / "server.py").write_text(SERVER)
    images.Image(str(folder), "/", (sys.executable, str(folder / "server.py")), {}, sys.prefix).save(state, "tiny:1")
    for name in ("tabular", "saved_model"):
        entrypoint = (sys.executable, "-m", f"containers.{name}")
        images.Image(str(ROOT), "/", entrypoint, {}, sys.prefix).save(state, f"{name}:1")


def image_uri(name: str) -> str:
    return f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/{name}:1"


def picture() -> bytes:
    """A PNG that saved_model takes."""
    content = io.BytesIO()
    Image.linear_gradient("L").resize((IMAGE_SIDE, IMAGE_SIDE)).save(content, "PNG")
    return content.getvalue()


@dataclass(frozen=True, slots=True)
class Model:
    """An image, its model data and its environment; multi_model: the data is a prefix of archives."""

    image: str
    data: str
    multi_model: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def create_model(name: str, model: Model) -> None:
    boto3.client("sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/any",
        PrimaryContainer={
            "Image": image_uri(model.image),
            "Mode": "MultiModel" if model.multi_model else "SingleModel",
            "ModelDataUrl": model.data,
            "Environment": dict(model.environment),
        },
    )


def create_config(name: str, instances: int) -> None:
    """An endpoint configuration of the model of the same name."""
    variant: Any = {
        "VariantName": VARIANT, "ModelName": name, "InstanceType": "ml.c5.large", "InitialInstanceCount": instances,
    }  # fmt: skip
    boto3.client("sagemaker").create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def create(name: str, model: Model, instances: int = 1) -> None:
    """Model, configuration and endpoint of one name, the endpoint still `Creating`."""
    create_model(name, model)
    create_config(name, instances)
    boto3.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=name)


def wait_in_service(*names: str) -> None:
    """Until endpoints are InService."""
    waiter = boto3.client("sagemaker").get_waiter("endpoint_in_service")
    for name in names:
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def replicas(endpoint: str) -> list[dict[str, Any]]:
    """Replicas of an endpoint, or of the components on it, that take requests."""
    return [
        replica
        for status in endpoint_status()
        if status["endpoint"] == endpoint
        for variant in status["variants"]
        for replica in variant["replicas"]
        if replica["ready"]
    ]


def notes(endpoint: str) -> str:
    """What `inference local status` says of an endpoint's variants."""
    return " ".join(
        variant["note"]
        for status in endpoint_status()
        if status["endpoint"] == endpoint
        for variant in status["variants"]
    )


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all that it started."""
    main = psutil.Process(pid)
    for process in [*main.children(recursive=True), main]:
        process.kill()


def hosting_pid(state: Path) -> int:
    """The hosting process."""
    return process_id(state, "hosting")


def emulator_pid(state: Path) -> int:
    """The emulator."""
    return process_id(state, "emulator")
