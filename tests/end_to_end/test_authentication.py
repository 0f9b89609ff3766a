"""A running local account serves its user's clients and nobody else: no web page, no stranger, no tampered request."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local_aws.account import ROOT, LocalAccount
from local_aws.environments import environment
from tests.local_account import INFERENCE, bootstrap, inference, wait_until
from tests.local_account import account as account
from tests.local_account import state as state

pytestmark = pytest.mark.end_to_end

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ATTACK = "attack"
"""Name of everything that a hostile request tries to make."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that a hostile build would write."""
    return tmp_path_factory.mktemp("planted") / "file"


def project(planted: Path) -> dict[str, Any]:
    """A CodeBuild project with commands of the attacker's."""
    return {
        "name": ATTACK,
        "source": {
            "type": "NO_SOURCE",
            "buildspec": f"version: 0.2\nphases:\n  build:\n    commands:\n      - touch {planted}\n",
        },
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
        },
        "serviceRole": "arn:aws:iam::000000000000:role/any",
    }


def codebuild(operation: str, content: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    headers = {"X-Amz-Target": f"CodeBuild_20161006.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    return headers, json.dumps(content).encode()


def nothing_happened(planted: Path) -> bool:
    """Whether nothing was read, written or built; asked as the account's own user."""
    return (
        not planted.exists()
        and boto3.client("codebuild").list_projects()["projects"] == []
        and boto3.client("s3").list_buckets()["Buckets"] == []
        and boto3.client("sagemaker").list_models()["Models"] == []
        and boto3.client("iam").list_users()["Users"] == []
    )


def sign(account: LocalAccount, method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """Sign a CodeBuild request as the account's user."""
    variables = account.client_environment()
    key = Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest(method, url, headers=dict(headers), data=body)
    SigV4Auth(key, "codebuild", variables["AWS_REGION"]).add_auth(request)
    return dict(request.headers.items())


HOSTILE = (
    "unsigned",
    "unsigned from a page",
    "signed from a page",
    "wrongly signed",
    "expired",
    "with a tampered body",
    "for another host",
    "preflight",
    "as a form",
)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("operation", ["CreateProject", "StartBuild", "ListProjects"])
def test_a_hostile_request_reads_writes_and_builds_nothing(
    account: LocalAccount, planted: Path, kind: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = project(planted) if operation == "CreateProject" else {"projectName": ATTACK}
    headers, body = codebuild(operation, content if operation != "ListProjects" else {})
    method, url = "POST", f"{account.endpoint_url}/"
    signed = sign(account, method, url, headers, body)
    match kind:
        case "unsigned from a page":
            headers = {**headers, "Origin": "https://example.com"}
        case "signed from a page":
            headers = {**signed, "Origin": "https://example.com"}
        case "wrongly signed":
            headers = {**signed, "Authorization": signed["Authorization"][:-4] + "0000"}
        case "expired":
            long_ago = datetime.now(UTC) - timedelta(minutes=16)
            with monkeypatch.context() as then:
                then.setattr("botocore.auth.get_current_datetime", lambda: long_ago)
                headers = sign(account, method, url, headers, body)
        case "with a tampered body":
            headers, body = signed, body.replace(b"{", b'{"x": 1, ', 1)
        case "for another host":
            headers = {**sign(account, method, "http://evil.example.com/", headers, body), "Host": "evil.example.com"}
        case "preflight":
            method, body = "OPTIONS", b""
            headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
        case "as a form":
            headers = {"Content-Type": "text/plain", "Origin": "null"}
    response = httpx.request(method, url, headers=headers, content=body, trust_env=False, timeout=30)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert ATTACK not in response.text
    assert nothing_happened(planted)


@pytest.mark.parametrize("path", ["/_local/status", "/_local/publish", "/endpoints/any/invocations", "/"])
def test_hosting_answers_no_stranger_either(account: LocalAccount, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        response = httpx.request(method, f"{account.runtime_url}{path}", trust_env=False, timeout=30)
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/_ministack/health", "/_ministack/reset", "/_ministack/config", "/_aws/ses"])
def test_no_door_of_the_emulator_is_open(account: LocalAccount, path: str) -> None:
    for method in ("GET", "POST"):
        response = httpx.request(method, f"{account.endpoint_url}{path}", trust_env=False, timeout=30)
        assert response.status_code == 403


PAGE = """<!doctype html><title>attack</title><body><script>
const account = "ACCOUNT", runtime = "RUNTIME", project = PROJECT;
const reports = [];
const attempt = async (name, work) => {
  try { reports.push(`${name}: ${await work()}`); } catch (error) { reports.push(`${name}: refused`); }
};
const headers = (operation) => ({
  "X-Amz-Target": `CodeBuild_20161006.${operation}`, "Content-Type": "application/x-amz-json-1.1",
});
const read = async (response) => `read ${response.status} ${(await response.text()).slice(0, 80)}`;
const run = async () => {
  for (const url of [account, runtime]) {
    await attempt("post", async () => read(await fetch(url, {method: "POST", body: JSON.stringify(project)})));
    await attempt("create", async () => read(await fetch(url,
      {method: "POST", headers: headers("CreateProject"), body: JSON.stringify(project)})));
    await attempt("get", async () => read(await fetch(`${url}/_ministack/health`)));
    await attempt("put", async () => read(await fetch(`${url}/attack`, {method: "PUT", body: "x"})));
    await fetch(url, {method: "POST", mode: "no-cors", body: JSON.stringify(project)}).catch(() => 0);
    await fetch(`${url}/?Action=CreateUser&UserName=attack`, {mode: "no-cors", credentials: "include"}).catch(() => 0);
    await fetch(`${url}/?Action=CreateUser&UserName=attack`,
      {method: "POST", mode: "no-cors", body: new URLSearchParams({Action: "CreateUser", UserName: "attack"})})
      .catch(() => 0);
    await new Promise((done) => {
      const picture = new Image(); picture.onload = picture.onerror = done; picture.src = `${url}/?Action=CreateUser`;
    });
    await attempt("socket", () => new Promise((done, fail) => {
      const socket = new WebSocket(url.replace("http", "ws"));
      socket.onopen = () => done("read"); socket.onerror = fail;
    }));
  }
  const form = document.createElement("form");
  form.method = "POST"; form.action = account; form.target = "frame"; form.enctype = "text/plain";
  const frame = document.createElement("iframe"); frame.name = "frame"; document.body.append(frame, form);
  form.submit();
  await new Promise((done) => { frame.onload = done; setTimeout(done, 2000); });
  await fetch("/report", {method: "POST", body: JSON.stringify(reports)});
};
run();
</script>"""


@contextlib.contextmanager
def hostile_site(account: LocalAccount, planted: Path) -> Iterator[tuple[str, list[str]]]:
    """A web site of somebody else's, and what its page reports home."""
    reports: list[str] = []
    page = (
        PAGE.replace("ACCOUNT", account.endpoint_url)
        .replace("RUNTIME", account.runtime_url)
        .replace("PROJECT", json.dumps(project(planted)))
    )

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page.encode())

        def do_POST(self) -> None:
            reports.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", reports
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_a_hostile_page_in_a_browser_reads_writes_and_builds_nothing(
    account: LocalAccount, planted: Path, tmp_path: Path
) -> None:
    with hostile_site(account, planted) as (url, reports):
        browser = subprocess.Popen(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0", url,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: bool(reports), 120, "the page's report")
        finally:
            browser.terminate()
            browser.wait(30)
    assert len(reports) == 10
    assert [report for report in reports if not report.endswith(": refused")] == []
    assert nothing_happened(planted)


@pytest.mark.usefixtures("account")
def test_the_user_does_what_the_page_could_not(planted: Path) -> None:
    """The attack is a real one: with a signature the same requests build."""
    client = boto3.client("codebuild")
    client.create_project(**project(planted))
    build = client.start_build(projectName=ATTACK)["build"]["id"]
    wait_until(
        lambda: client.batch_get_builds(ids=[build])["builds"][0]["buildStatus"] != "IN_PROGRESS", 60, "the build's end"
    )
    assert planted.exists()
    client.delete_project(name=ATTACK)


def in_a_users_shell(state: Path, command: str, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run a command in a shell that knows the account only by `inference local env`."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = os.pathsep.join([str(Path(INFERENCE[0]).parent), "/usr/local/bin:/usr/bin:/bin", os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", f'set -e; eval "$(inference local env --state {state})"; {command}'],
        env={**kept, "PATH": path}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@pytest.mark.usefixtures("account")
def test_boto3_and_the_cdks_command_line_with_its_own_handlers_work(state: Path) -> None:
    done = in_a_users_shell(
        state, 'python -c \'import boto3; print(boto3.client("sts").get_caller_identity()["Account"])\''
    )
    assert (done.stdout.strip(), done.stderr) == ("000000000000", "")
    bootstrap()
    assert boto3.client("cloudformation").describe_stacks(StackName="CDKToolkit")["Stacks"]


@pytest.mark.usefixtures("account")
@pytest.mark.skipif(shutil.which("aws") is None, reason="the AWS CLI is not installed: pip install awscli")
def test_the_aws_cli_works(state: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2**20))
    done = in_a_users_shell(
        state,
        "aws s3 mb s3://cli-bucket && "
        f"aws s3 cp --only-show-errors {tmp_path / 'file'} 's3://cli-bucket/a key=with+everything' && "
        f"aws s3 cp --only-show-errors 's3://cli-bucket/a key=with+everything' {tmp_path / 'again'} && "
        "aws sagemaker list-endpoints && aws cloudwatch list-metrics >/dev/null && aws ec2 describe-vpcs >/dev/null && "
        "aws s3 rb --force s3://cli-bucket",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


FAST_CLIENT = """
from load_tests.swarm.senders import Request
from load_tests.plan import Place, Plan, SageMakerTarget
from load_tests.swarm.senders import SendFailedError, sender
target = SageMakerTarget(endpoint="absent", variant="AllTraffic")
plan = Plan(
    workload="any", endpoint="absent", location="local", machine="", feed="", level=1, seconds=1, client="fast",
    target=target,
)
try:
    sender(plan).send(Request(body=b"{}", content_type="application/json"), Place(name="any"))
except SendFailedError as error:
    print(error)
"""


@pytest.mark.usefixtures("account")
def test_locusts_fast_client_works(state: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FAST_CLIENT)
    done = in_a_users_shell(state, f"cd {ROOT}; PYTHONPATH=. python {tmp_path / 'script.py'}")
    # Hosting itself has looked for the endpoint.
    assert "400" in done.stdout, done.stderr[-2000:]


SAGEMAKER_SDK = """
from sagemaker.core.resources import Endpoint, Model
print([model.model_name for model in Model.get_all()], [endpoint.endpoint_name for endpoint in Endpoint.get_all()])
"""


def test_the_sagemaker_sdk_works(account: LocalAccount, state: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("sagemaker-core==2.27.0\n")
    python = environment(Path(account.cache), "sagemaker-sdk", requirements) / "bin/python"
    (tmp_path / "script.py").write_text(SAGEMAKER_SDK)
    done = in_a_users_shell(state, f"{python} {tmp_path / 'script.py'}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("[] []")


@pytest.mark.usefixtures("account")
def test_a_presigned_url_is_followed_by_anybody_until_it_expires() -> None:
    s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
    s3.create_bucket(Bucket="presigned")
    s3.put_object(Bucket="presigned", Key="a key", Body=b"content")
    url = s3.generate_presigned_url("get_object", {"Bucket": "presigned", "Key": "a key"}, ExpiresIn=60)
    assert httpx.get(url, trust_env=False).content == b"content"
    assert httpx.get(url.replace("a%20key", "another"), trust_env=False).status_code == 403
    expired = s3.generate_presigned_url("get_object", {"Bucket": "presigned", "Key": "a key"}, ExpiresIn=1)
    time.sleep(2.1)
    refused = httpx.get(expired, trust_env=False)
    assert (refused.status_code, "Request has expired" in refused.text) == (403, True)
    s3.delete_object(Bucket="presigned", Key="a key")
    s3.delete_bucket(Bucket="presigned")


@pytest.mark.usefixtures("account")
def test_an_assumed_role_and_a_users_key_are_known_to_hosting_too() -> None:
    iam = boto3.client("iam")
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName="caller", AssumeRolePolicyDocument=json.dumps(trust))
    arn = iam.get_role(RoleName="caller")["Role"]["Arn"]
    session = boto3.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    iam.create_user(UserName="caller")
    user = iam.create_access_key(UserName="caller")["AccessKey"]
    keys = [
        (session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]),
        (user["AccessKeyId"], user["SecretAccessKey"], None),
    ]
    for key_id, secret, token in keys:
        caller = boto3.Session(aws_access_key_id=key_id, aws_secret_access_key=secret, aws_session_token=token)
        assert caller.client("sagemaker").list_models()["Models"] == []
        with pytest.raises(ClientError, match="not found"):
            caller.client("sagemaker-runtime").invoke_endpoint(EndpointName="absent", Body=b"{}")
    iam.delete_access_key(UserName="caller", AccessKeyId=user["AccessKeyId"])
    revoked = boto3.Session(aws_access_key_id=user["AccessKeyId"], aws_secret_access_key=user["SecretAccessKey"])
    with pytest.raises(ClientError, match="security token"):
        revoked.client("sagemaker").list_models()
    iam.delete_user(UserName="caller")
    iam.delete_role(RoleName="caller")


@pytest.mark.usefixtures("account")
def test_the_keys_and_all_else_are_readable_by_their_owner_only(state: Path) -> None:
    assert state.stat().st_mode & 0o077 == 0
    open_ones = [path for path in state.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o077]
    assert [path.name for path in open_ones if path.name != ".made-by-sagemaker-inference-stacks"] == []


def test_every_port_is_on_the_loopback_interface(account: LocalAccount) -> None:
    processes = [
        psutil.Process(account.supervisor_pid),
        *psutil.Process(account.supervisor_pid).children(recursive=True),
    ]
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_the_keys_go_with_the_account(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert inference(own, "local", "up").returncode == 0
    first = inference(own, "local", "env").stdout
    assert inference(own, "local", "down").returncode == 0
    assert inference(own, "local", "up").returncode == 0
    second = inference(own, "local", "env").stdout
    assert inference(own, "local", "down").returncode == 0
    secret = [next(line for line in text.splitlines() if "SECRET" in line) for text in (first, second)]
    assert secret[0] != secret[1]
    assert not own.exists()
