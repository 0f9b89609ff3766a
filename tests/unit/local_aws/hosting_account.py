"""The hosting process of a local account for tests: its real application on a port, and boto3's clients for it."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError

from load_tests.signed_requests import SignedRequests
from local_aws.account import REGION
from local_aws.authentication.credentials import DEPLOYER, Credential, CredentialStore
from local_aws.hosting.__main__ import application
from local_aws.hosting.images import Image
from local_aws.processes import free_port

IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/echo:1"
DEADLINE_SECONDS = 30
ROLE = "arn:aws:iam::000000000000:role/serve"
SERVER = """
import http.server, json, os, pathlib

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.respond(b"", "application/json")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model"
        if body == b"files":
            names = sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
            self.respond(json.dumps(names).encode(), "application/json")
        else:
            self.respond(body, self.headers["accept"])

    def respond(self, body, kind):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

address = os.environ["SAGEMAKER_BIND_TO_HOST"], int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
"""A container that returns a request's body in the type that it accepts, and for `files` the names below its model."""


@dataclass
class HostingAccount:
    """A running hosting process, and the deployer's key."""

    state: Path
    url: str
    key: Credential

    def client(self, service: str) -> Any:
        """Return a client that retries nothing, and that leaves the check of a request to the service."""
        return boto3.client(  # type: ignore[call-overload]  # the stubs know services by literals only
            service, endpoint_url=self.url, region_name=REGION,
            aws_access_key_id=self.key.access_key_id, aws_secret_access_key=self.key.secret_access_key,
            aws_session_token=self.key.session_token or None,
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )  # fmt: skip

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @property
    def scaling(self) -> Any:
        return self.client("application-autoscaling")

    def send(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        """Send a signed POST request that no client library would send."""
        auth = SignedRequests({**self.key.environment(), "AWS_REGION": REGION})
        return httpx.post(self.url + path, content=content, headers=headers, auth=auth, trust_env=False)

    def settled(self, endpoint: str = "e") -> dict[str, Any]:
        """Return an endpoint once nothing is in progress."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            described: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=endpoint)
            if described["EndpointStatus"] in ("InService", "Failed"):
                return described
            assert time.monotonic() < deadline, f"still {described['EndpointStatus']}"
            time.sleep(0.05)

    def deploy(self, name: str = "e", *, count: int = 1, **container: Any) -> dict[str, Any]:
        """Create a model, a configuration and an endpoint of one name, and return the endpoint once it is settled."""
        given = {"Image": IMAGE, **container}
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=given, ExecutionRoleArn=ROLE)
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant(ModelName=name, InitialInstanceCount=count)]
        )
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        return self.settled(name)

    def delete(self, endpoint: str = "e") -> None:
        """Delete an endpoint, and wait until it is gone."""
        self.sagemaker.delete_endpoint(EndpointName=endpoint)
        deadline = time.monotonic() + DEADLINE_SECONDS
        with contextlib.suppress(ClientError):
            while time.monotonic() < deadline:
                self.sagemaker.describe_endpoint(EndpointName=endpoint)
                time.sleep(0.05)
            raise AssertionError("the endpoint is still there")


def variant(**changes: Any) -> dict[str, Any]:
    """Return a production variant with an instance type; a change to None leaves a member out."""
    given = {"VariantName": "v", "InstanceType": "ml.c6i.large", "InitialInstanceCount": 1, **changes}
    return {name: value for name, value in given.items() if value is not None}


def error_of(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and message of the error that a call raises."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError("the call was accepted")


@contextlib.contextmanager
def running(state: Path) -> Iterator[HostingAccount]:
    """Serve a new account with the echo image until the block ends."""
    for folder in ("tmp", "logs", "models", "replicas", "images"):
        (state / folder).mkdir()
    Image(str(state), "/", (sys.executable, "-c", SERVER), {}, str(state)).save(state, "echo:1")
    key, address = CredentialStore(state).issue(DEPLOYER), f"127.0.0.1:{free_port()}"
    config = uvicorn.Config(application(state, address), port=int(address.rpartition(":")[2]), log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield HostingAccount(state, f"http://{address}", key)
    finally:
        server.should_exit = True
        thread.join()
