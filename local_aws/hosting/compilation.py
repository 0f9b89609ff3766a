"""Compilation jobs: SageMaker Neo's API with a fake compiler, labelled as such."""

import asyncio
import contextlib
import os
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local_aws import fake_images
from local_aws.account import ROOT, default_cache
from local_aws.environments import EnvironmentSetupError
from local_aws.hosting.artifacts import fetch
from local_aws.hosting.components import Plane
from local_aws.hosting.errors import ApiError, ReportedError
from local_aws.hosting.s3_urls import S3Location
from local_aws.processes import die_with_parent

Document = dict[str, Any]
KIND = "CompilationJob"
LISTED = ("CompilationStartTime", "CompilationEndTime", "CompilationTargetDevice")
"""Members of a list's rows in addition to name, ARN, status and times."""
_RUNNING = ("STARTING", "INPROGRESS")
_VERSIONS = ("1.15", "1.15.3", "2.9")
_DEFAULT_SECONDS = 3600


class CompilationFailedError(ReportedError):
    """The compiler refused the model; the text is the job's FailureReason."""


class CompilationJobs:
    """Compilation jobs: created, described, stopped, deleted, and each run as its own process.

    compiler: returns the command, which takes a model's folder, DataInputConfig and an output folder. It may install an
    environment, and may raise EnvironmentSetupError.
    """

    def __init__(self, state: Path, plane: Plane, compiler: Callable[[], tuple[str, ...]] | None = None) -> None:
        self._state, self._plane = state, plane
        self._compiler = compiler or (lambda: fake_images.neo_compiler(default_cache()))
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def handlers(self) -> dict[str, Callable[[Document], Document]]:
        """Operations of the API except the list, by name."""
        return {
            "CreateCompilationJob": self._create,
            "DescribeCompilationJob": self._describe,
            "StopCompilationJob": self._stop,
            "DeleteCompilationJob": self._delete,
        }

    def restore(self) -> None:
        """Restart jobs that an earlier process did not finish."""
        for job in self._plane.all(KIND):
            if job["CompilationJobStatus"] in _RUNNING:
                self._start(job)
            elif job["CompilationJobStatus"] == "STOPPING":
                self._end(job, "STOPPED")

    async def close(self) -> None:
        """Kill the compilers, and return once the plane's cancelled jobs have ended too."""
        for process in self._processes.values():
            _kill(process)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _create(self, request: Document) -> Document:
        name, given = request["CompilationJobName"], request.get("InputConfig")
        if given is None:
            raise ApiError("ValidationException", "the local account requires InputConfig: add one")
        if ("TargetDevice" in request["OutputConfig"]) == ("TargetPlatform" in request["OutputConfig"]):
            raise ApiError("ValidationException", "Exactly one of TargetDevice and TargetPlatform must be specified.")
        if given["Framework"] != "TENSORFLOW" or given.get("FrameworkVersion") not in _VERSIONS:
            raise ApiError(
                "ValidationException",
                f"the local account compiles TENSORFLOW {', '.join(_VERSIONS)} only, not {given['Framework']} "
                f"{given.get('FrameworkVersion', 'without FrameworkVersion')}",
            )
        if not given["S3Uri"].endswith(".tar.gz"):
            raise ApiError("ValidationException", f"S3Uri {given['S3Uri']} must end in .tar.gz")
        if any(job["CompilationJobName"] == name for job in self._plane.all(KIND)):
            raise ApiError("ResourceInUse", f"Compilation job {name} already exists.")
        response = self._plane.create(KIND, request)
        job = self._plane.get(KIND, name)
        job |= {
            "CompilationJobStatus": "STARTING",
            "LastModifiedTime": time.time(),
            "FailureReason": "",
            "ModelArtifacts": {"S3ModelArtifacts": ""},
        }
        if "TargetDevice" in request["OutputConfig"]:
            job["CompilationTargetDevice"] = request["OutputConfig"]["TargetDevice"]
        self._plane.save()
        self._start(job)
        return response

    def _start(self, job: Document) -> None:
        self._plane.run(self._run(job), lambda reason: self._end(job, "FAILED", reason))

    def _describe(self, request: Document) -> Document:
        return {
            name: value
            for name, value in self._job(request["CompilationJobName"]).items()
            if name != "CompilationTargetDevice"
        }

    def _stop(self, request: Document) -> Document:
        job = self._job(request["CompilationJobName"])
        if job["CompilationJobStatus"] not in _RUNNING:
            raise ApiError("ValidationException", f"The job is {job['CompilationJobStatus']} and cannot be stopped.")
        job |= {"CompilationJobStatus": "STOPPING", "LastModifiedTime": time.time()}
        self._plane.save()
        if process := self._processes.get(job["CompilationJobName"]):
            _kill(process)
        return {}

    def _delete(self, request: Document) -> Document:
        job = self._job(request["CompilationJobName"])
        if job["CompilationJobStatus"] in (*_RUNNING, "STOPPING"):
            raise ApiError(
                "ValidationException", f"The job is {job['CompilationJobStatus']}: stop it before you delete it."
            )
        self._plane.forget(KIND, job["CompilationJobName"])
        return {}

    def _job(self, name: str) -> Document:
        try:
            return self._plane.get(KIND, name)
        except ApiError as error:
            raise ApiError("ResourceNotFound", str(error)) from None

    async def _run(self, job: Document) -> None:
        if job["CompilationJobStatus"] == "STOPPING":
            self._end(job, "STOPPED")
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        job |= {"CompilationJobStatus": "INPROGRESS", "CompilationStartTime": time.time()}
        self._plane.save()
        folder = Path(tempfile.mkdtemp(dir=self._state / "tmp"))
        limit = int(job["StoppingCondition"].get("MaxRuntimeInSeconds", _DEFAULT_SECONDS))
        try:
            async with asyncio.timeout(limit):
                await self._compile(job, folder)
        except TimeoutError:
            self._end(job, "FAILED", f"ClientError: TimeOut: the job ran for {limit} seconds, its MaxRuntimeInSeconds")
        except EnvironmentSetupError as error:
            self._end(job, "FAILED", str(error))
        except (BotoCoreError, ClientError, OSError) as error:
            self._end(job, "FAILED", f"ClientError: the compiled model could not be stored: {error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _compile(self, job: Document, folder: Path) -> None:
        source = S3Location.parse(job["InputConfig"]["S3Uri"])
        model, output = folder / "model", folder / "output"
        await asyncio.to_thread(fetch, boto3.client("s3"), source.bucket, source.key, model)
        command = await asyncio.to_thread(self._compiler)
        if job["CompilationJobStatus"] == "INPROGRESS":
            await self._execute(job, [*command, str(model), job["InputConfig"]["DataInputConfig"], str(output)], folder)
        if job["CompilationJobStatus"] != "INPROGRESS":
            self._end(job, "STOPPED")
            return
        url = _output_url(job)
        await asyncio.to_thread(_store, output, folder / "compiled.tar.gz", url, job["OutputConfig"].get("KmsKeyId"))
        job["ModelArtifacts"] = {"S3ModelArtifacts": url}
        self._end(job, "COMPLETED")

    async def _execute(self, job: Document, command: list[str], folder: Path) -> None:
        name = job["CompilationJobName"]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._processes[name] = process
        if job["CompilationJobStatus"] != "INPROGRESS":
            # Stopped during startup, when there was no process to kill yet.
            _kill(process)
        try:
            _, errors = await process.communicate()
        finally:
            _kill(process)
            await process.wait()
            del self._processes[name]
        if process.returncode and job["CompilationJobStatus"] == "INPROGRESS":
            lines = errors.decode(errors="replace").splitlines()
            known = [line for line in lines if line.startswith("ClientError: ")]
            raise CompilationFailedError(known[-1] if known else f"ServerError: {' '.join(lines[-3:])[-1000:]}")

    def _end(self, job: Document, status: str, reason: str = "") -> None:
        now = time.time()
        job |= {"CompilationJobStatus": status, "FailureReason": reason, "CompilationEndTime": now}
        job["LastModifiedTime"] = now
        self._plane.save()


def _output_url(job: Document) -> str:
    """Return where SageMaker stores the result: the archive's own name plus the target's."""
    output = job["OutputConfig"]
    target = output.get("TargetDevice") or "_".join(
        output["TargetPlatform"][part] for part in ("Os", "Arch", "Accelerator") if part in output["TargetPlatform"]
    )
    name = job["InputConfig"]["S3Uri"].rpartition("/")[2].removesuffix(".tar.gz")
    return f"{output['S3OutputLocation'].rstrip('/')}/{name}-{target}.tar.gz"


def _store(folder: Path, archive: Path, url: str, kms_key_id: str | None) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(path.relative_to(folder)), recursive=False)
    target = S3Location.parse(url)
    encryption: Document = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}
    with archive.open("rb") as body:
        boto3.client("s3").put_object(Bucket=target.bucket, Key=target.key, Body=body, **encryption)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
