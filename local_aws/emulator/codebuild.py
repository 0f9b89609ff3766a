"""CodeBuild in the emulator: a build runs its buildspec in a local shell."""

import copy
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import yaml
from ministack.core.responses import get_account_id, get_region, new_uuid
from ministack.services import codebuild
from ministack.services.cloudformation import provisioners

from local_aws.processes import die_with_parent

_PHASES = ("install", "pre_build", "build", "post_build")
_QUOTED_LINES = 20
_overrides: dict[str, list[dict[str, str]]] = {}
_starting = threading.Lock()
_start_build = codebuild._start_build


def _start_build_with_overrides(data: dict[str, Any]) -> Any:
    # The build's thread waits for this lock, so it never looks for its overrides before they are here.
    with _starting:
        answer = _start_build(data)
        if answer[0] == 200 and data.get("environmentVariablesOverride"):
            _overrides[json.loads(answer[2])["build"]["id"]] = copy.deepcopy(data["environmentVariablesOverride"])
        return answer


def _execute(build_id: str, project: dict[str, Any]) -> None:
    with _starting:
        overrides = _overrides.pop(build_id, [])
    build = codebuild._builds.get(build_id)
    group = ((project.get("logsConfig") or {}).get("cloudWatchLogs") or {}).get("groupName")
    if group:
        build["logs"]["groupName"] = group
    emit = codebuild._log_sink(build)
    folder = Path(tempfile.mkdtemp(prefix="codebuild-"))
    build["buildStatus"] = "IN_PROGRESS"
    try:
        status = _run_phases(build, project, overrides, folder, emit)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, yaml.YAMLError) as error:
        emit(f"the build could not run: {error!r}")
        status = "FAULT"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if build["buildStatus"] != "STOPPED":
        codebuild._finish_build(build, status)


def _run_phases(
    build: dict[str, Any], project: dict[str, Any], overrides: list[dict[str, str]], folder: Path, emit: Any
) -> str:
    source = project.get("source") or {}
    if source.get("type") == "S3":
        bucket, _, key = source["location"].partition("/")
        content = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(folder)
    spec_text = source.get("buildspec") or "buildspec.yml"
    if "\n" not in spec_text and not spec_text.lstrip().startswith("{"):
        spec_text = (folder / spec_text).read_text()
    spec = yaml.safe_load(spec_text)
    environment = {
        **os.environ,
        "CODEBUILD_BUILD_ID": build["id"],
        "CODEBUILD_SRC_DIR": str(folder),
        **{name: str(value) for name, value in ((spec.get("env") or {}).get("variables") or {}).items()},
    }
    # The emulator's own interpreter must not be the build's: a build brings its own environment.
    environment.pop("PYTHONPATH", None)
    configured = (project.get("environment") or {}).get("environmentVariables") or []
    for variable in [*configured, *overrides]:
        environment[variable["name"]] = variable["value"]
    for phase in _PHASES:
        commands = ((spec.get("phases") or {}).get(phase) or {}).get("commands") or []
        if not commands:
            continue
        build["currentPhase"] = phase.upper()
        succeeded, last = _run("\n".join(commands), folder, environment, codebuild._timeout_seconds(project), emit)
        codebuild._record_phase(build, phase.upper(), "SUCCEEDED" if succeeded else "FAILED")
        if not succeeded:
            build["phases"][-1]["contexts"] = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": " | ".join(last)}]
            return "FAILED"
    return "SUCCEEDED"


def _run(script: str, folder: Path, environment: dict[str, str], timeout: int, emit: Any) -> tuple[bool, list[str]]:
    process = subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    timer = threading.Timer(timeout, lambda: os.killpg(process.pid, signal.SIGKILL))
    timer.start()
    last: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        emit(line.rstrip("\n"))
        last = [*last, line.strip()][-_QUOTED_LINES:]
    timer.cancel()
    return process.wait() == 0, last


def _keeping_logs_config(provision: Callable[..., tuple[str, Any]]) -> Callable[..., tuple[str, Any]]:
    """MiniStack's projects leave out where their builds' output goes."""

    def provisioned(*arguments: Any) -> tuple[str, Any]:
        name, attributes = provision(*arguments)
        properties = [argument for argument in arguments if isinstance(argument, dict)][-1]
        codebuild._projects[name]["logsConfig"] = provisioners._codebuild_cfn_to_api(properties.get("LogsConfig") or {})
        return name, attributes

    return provisioned


def _create_fleet(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
    name = properties.get("Name") or provisioners._physical_name(stack, logical_id, max_len=128)
    arn = f"arn:aws:codebuild:{get_region()}:{get_account_id()}:fleet/{name}:{new_uuid()}"
    return arn, {"Arn": arn}


def register() -> None:
    """Replaces the runner, and adds fleets: builds run on this machine whatever the fleet."""
    codebuild.EXECUTE_BUILDS = True
    codebuild._execute_build = _execute
    codebuild._start_build = _start_build_with_overrides
    project = provisioners._RESOURCE_HANDLERS["AWS::CodeBuild::Project"]
    for operation in ("create", "update"):
        project[operation] = _keeping_logs_config(project[operation])
    provisioners._RESOURCE_HANDLERS["AWS::CodeBuild::Fleet"] = {
        "create": _create_fleet,
        "update": lambda physical_id, old, new, stack: (physical_id, {"Arn": physical_id}),
        "delete": lambda physical_id, properties: None,
    }
