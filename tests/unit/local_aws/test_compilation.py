"""Compilation jobs in the local account go the ways that they go on AWS, and fail with a reason."""

import asyncio
import io
import sys
import tarfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.environments import EnvironmentSetupError
from local_aws.fake_images.neo import __main__ as compiler
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.json_api import JsonService
from local_aws.hosting.service_model import SAGEMAKER

DEADLINE_SECONDS = 20
COPIES = """
import pathlib, shutil, sys
model, shapes, output = sys.argv[1:]
shutil.copytree(model, output)
(pathlib.Path(output) / "shapes.json").write_text(shapes)
"""


class FakeS3:
    """Objects by bucket and key, and the arguments that each was stored with."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.stored_with: dict[str, dict[str, Any]] = {}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        if f"{Bucket}/{Key}" not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": f"no {Key}"}}, "GetObject")
        self._chunks = [self.objects[f"{Bucket}/{Key}"]]
        return {"Body": self, "ETag": '"tag"'}

    def iter_chunks(self, _size: int) -> list[bytes]:
        return self._chunks

    def put_object(self, Bucket: str, Key: str, Body: Any, **arguments: Any) -> None:  # noqa: N803 - boto3's names
        self.objects[f"{Bucket}/{Key}"] = Body.read()
        self.stored_with[f"{Bucket}/{Key}"] = arguments


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    made = FakeS3()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("model/1/saved_model.pb")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"graph"))
    made.objects["b/in/model.tar.gz"] = content.getvalue()
    monkeypatch.setattr(boto3, "client", lambda _name: made)
    return made


def request(name: str = "job", seconds: int = 900, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "CompilationJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/compile",
        "InputConfig": {
            "S3Uri": "s3://b/in/model.tar.gz",
            "DataInputConfig": '{"image": [1, 2]}',
            "Framework": "TENSORFLOW",
            "FrameworkVersion": "2.9",
        },
        "OutputConfig": {"S3OutputLocation": "s3://b/out/", "TargetDevice": "ml_g4dn", "KmsKeyId": "key"},
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
    }
    for path, value in changes.items():
        part, _, member = path.partition("__")
        made[part] = {**made[part], member: value} if member else value
    return made


class Account:
    """A control plane whose compiler is a few lines of Python."""

    def __init__(self, state: Path, script: str = COPIES, command: Callable[[], tuple[str, ...]] | None = None) -> None:
        (state / "tmp").mkdir(exist_ok=True)
        self.plane = ControlPlane(state, compiler=command or (lambda: (sys.executable, "-c", script)))

    def __call__(self, operation: str, **asked: Any) -> dict[str, Any]:
        return JsonService(SAGEMAKER, self.plane.handle, self.plane.operations).respond(operation, asked)

    def status(self, name: str = "job") -> str:
        return str(self("DescribeCompilationJob", CompilationJobName=name)["CompilationJobStatus"])

    async def until(self, *statuses: str, name: str = "job") -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.status(name) not in statuses:
            assert time.monotonic() < deadline, f"still {self.status(name)}"
            await asyncio.sleep(0.02)
        return self("DescribeCompilationJob", CompilationJobName=name)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_job_writes_what_the_compiler_made_under_the_targets_name(tmp_path: Path, s3: FakeS3) -> None:
    async def work() -> None:
        account = Account(tmp_path)
        answer = account("CreateCompilationJob", **request())
        assert answer == {"CompilationJobArn": "arn:aws:sagemaker:us-east-1:000000000000:compilation-job/job"}
        assert account.status() in ("STARTING", "INPROGRESS")
        done = await account.until("COMPLETED", "FAILED")
        assert (done["CompilationJobStatus"], done["FailureReason"]) == ("COMPLETED", "")
        assert done["ModelArtifacts"] == {"S3ModelArtifacts": "s3://b/out/model-ml_g4dn.tar.gz"}
        assert done["CompilationStartTime"] <= done["CompilationEndTime"]
        await account.plane.close()

    run(work())
    with tarfile.open(fileobj=io.BytesIO(s3.objects["b/out/model-ml_g4dn.tar.gz"])) as tar:
        files = {member.name for member in tar if member.isfile()}
    assert files == {"model/1/saved_model.pb", "shapes.json"}
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"}
    assert s3.stored_with["b/out/model-ml_g4dn.tar.gz"] == encryption
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_platforms_archive_is_named_by_its_parts(tmp_path: Path, s3: FakeS3) -> None:
    async def work() -> None:
        account = Account(tmp_path)
        platform = {"Os": "LINUX", "Arch": "ARM64", "Accelerator": "NVIDIA"}
        account(
            "CreateCompilationJob",
            **request(OutputConfig={"S3OutputLocation": "s3://b/out", "TargetPlatform": platform}),
        )
        await account.until("COMPLETED")
        await account.plane.close()

    run(work())
    assert s3.stored_with["b/out/model-LINUX_ARM64_NVIDIA.tar.gz"] == {}


REFUSES = "import sys; sys.exit('noise\\nClientError: InputConfiguration: the model takes image')"
CRASHES = "raise MemoryError('no room')"


def no_environment() -> tuple[str, ...]:
    raise EnvironmentSetupError("pip install failed: no network")


def odd() -> tuple[str, ...]:
    raise LookupError("nobody thought of this")


@pytest.mark.parametrize(
    ("script", "command", "changes", "told"),
    [
        (REFUSES, None, {}, "ClientError: InputConfiguration: the model takes image"),
        (CRASHES, None, {}, "ServerError: .*MemoryError: no room"),
        (COPIES, no_environment, {}, "pip install failed: no network"),
        (COPIES, odd, {}, "internal failure: LookupError: nobody thought of this"),
        (COPIES, None, {"InputConfig__S3Uri": "s3://b/none.tar.gz"}, "could not download .* no none.tar.gz"),
        ("import time; time.sleep(60)", None, {"seconds": 1}, "TimeOut: the job ran for 1 seconds"),
    ],
    ids=["refused", "crashed", "not installed", "unexpected", "no model", "too slow"],
)
def test_a_job_that_fails_says_why(
    tmp_path: Path, s3: FakeS3, script: str, command: Any, changes: dict[str, Any], told: str
) -> None:
    async def work() -> None:
        account = Account(tmp_path, script, command)
        account("CreateCompilationJob", **request(**changes))
        failed = await account.until("COMPLETED", "FAILED")
        with pytest.raises(AssertionError, match=told):
            raise AssertionError(failed["FailureReason"])
        await account.plane.close()

    run(work())
    assert list(s3.objects) == ["b/in/model.tar.gz"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.usefixtures("s3")
def test_a_stopped_job_ends_and_only_then_may_be_deleted(tmp_path: Path) -> None:
    async def work() -> None:
        account = Account(tmp_path, "import time; time.sleep(60)")
        account("CreateCompilationJob", **request())
        await account.until("INPROGRESS")
        with pytest.raises(ApiError, match="INPROGRESS: stop it"):
            account("DeleteCompilationJob", CompilationJobName="job")
        account("StopCompilationJob", CompilationJobName="job")
        await account.until("STOPPED")
        with pytest.raises(ApiError, match="is STOPPED and cannot be stopped"):
            account("StopCompilationJob", CompilationJobName="job")
        account("DeleteCompilationJob", CompilationJobName="job")
        with pytest.raises(ApiError, match="Could not find compilation job") as raised:
            account.status()
        assert raised.value.code == "ResourceNotFound"
        await account.plane.close()

    run(work())


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10, 50])
def test_a_job_is_stopped_at_whatever_moment(tmp_path: Path, turns: int) -> None:
    async def work() -> None:
        account = Account(tmp_path, "import time; time.sleep(60)")
        account("CreateCompilationJob", **request())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        account("StopCompilationJob", CompilationJobName="job")
        await account.until("STOPPED")
        await account.plane.close()

    run(work())


@pytest.mark.usefixtures("s3")
def test_jobs_outlive_the_process_and_unfinished_ones_begin_anew(tmp_path: Path) -> None:
    async def begin() -> None:
        account = Account(tmp_path, "import time; time.sleep(60)")
        account("CreateCompilationJob", **request("unfinished"))
        await account.until("INPROGRESS", name="unfinished")
        await account.plane.close()

    async def go_on() -> None:
        account = Account(tmp_path)
        account.plane.restore()
        await account.until("COMPLETED", name="unfinished")
        account("CreateCompilationJob", **request("later"))
        await account.until("COMPLETED", name="later")
        rows = account("ListCompilationJobs")["CompilationJobSummaries"]
        assert [row["CompilationJobName"] for row in rows] == ["unfinished", "later"]
        assert {row["CompilationTargetDevice"] for row in rows} == {"ml_g4dn"}
        assert account("ListCompilationJobs", StatusEquals="FAILED")["CompilationJobSummaries"] == []
        await account.plane.close()

    run(begin())
    run(go_on())


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"OutputConfig__TargetDevice": "ml_g4d"},
            r"'ml_g4d' at 'outputConfig.targetDevice' .* enum value set: \[lambda",
        ),
        ({"InputConfig__Framework": "TF"}, "'TF' at 'inputConfig.framework' failed"),
        ({"CompilationJobName": "a_b"}, "'a_b' at 'compilationJobName' .* pattern"),
        ({"CompilationJobName": "a" * 64}, "less than or equal to 63"),
        ({"StoppingCondition__MaxRuntimeInSeconds": 0}, "'0' at 'stoppingCondition.maxRuntimeInSeconds' .* 1"),
        ({"OutputConfig": {"TargetDevice": "ml_c5"}}, "'outputConfig.s3OutputLocation' .* must not be null"),
        ({"OutputConfig__TargetPlatform": {"Os": "LINUX", "Arch": "X86_64"}}, "Exactly one of TargetDevice"),
        ({"InputConfig__FrameworkVersion": "2.11"}, "compiles TENSORFLOW 1.15, 1.15.3, 2.9 only, not TENSORFLOW 2.11"),
        ({"InputConfig__Framework": "PYTORCH"}, "not PYTORCH 2.9"),
        ({"InputConfig__S3Uri": "s3://b/model.zip"}, "must end in .tar.gz"),
    ],
)
def test_what_the_api_does_not_take_is_refused_as_aws_words_it(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ApiError, match=told) as raised:
        Account(tmp_path)("CreateCompilationJob", **request(**changes))
    assert raised.value.code == "ValidationException"


@pytest.mark.usefixtures("s3")
def test_a_name_is_for_one_job(tmp_path: Path) -> None:
    async def work() -> None:
        account = Account(tmp_path)
        account("CreateCompilationJob", **request())
        with pytest.raises(ApiError, match="already exists") as raised:
            account("CreateCompilationJob", **request())
        assert raised.value.code == "ResourceInUse"
        await account.until("COMPLETED")
        await account.plane.close()

    run(work())


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ("image", "is not JSON"),
        ("[1, 2]", "must name inputs"),
        ("{}", "must name inputs"),
        ('{"image": 1}', "shape of 'image' is 1"),
        ('{"image": [0, 2]}', "positive numbers"),
        ('{"image": ["1"]}', "positive numbers"),
    ],
)
def test_the_fake_compiler_refuses_shapes_that_are_none(
    tmp_path: Path, shapes: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in/model/1").mkdir(parents=True)
    (tmp_path / "in/model/1/saved_model.pb").touch()
    assert compiler.main([str(tmp_path / "in"), shapes, str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ClientError: InputConfiguration: ")
    assert told in error


@pytest.mark.parametrize("names", [[], ["a/1", "b/1"]])
def test_the_fake_compiler_compiles_exactly_one_model(
    tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "saved_model.pb").touch()
    assert compiler.main([str(tmp_path / "in"), '{"image": [1]}', str(tmp_path / "out")]) == 1
    assert f"holds {len(names)} files saved_model.pb" in capsys.readouterr().err
