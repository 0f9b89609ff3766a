"""CodeBuild in the emulator: a build runs its buildspec in a local shell."""

import copy
import io
import json
import os
import signal
import subprocess
import tempfile
import threading
import uuid
import zipfile
from pathlib import Path
from typing import Any

import boto3
import yaml

from local_aws.emulator import build_environment, sessions
from local_aws.emulator.build_environment import BuildEnvironmentError, BuildOutput
from local_aws.emulator.ministack import codebuild
from local_aws.emulator.ministack.resources import (
    Properties,
    Provisioned,
    after_provisioning,
    physical_name,
    register_resource,
)
from local_aws.emulator.ministack.responses import Response, account_id, region
from local_aws.processes import die_with_parent

_PHASES = ("install", "pre_build", "build", "post_build")
_QUOTED_LINES = 20
_overrides: dict[str, list[dict[str, str]]] = {}
_starting = threading.Lock()


def _keeping_overrides(start_build: codebuild.StartBuild) -> codebuild.StartBuild:
    def start(data: dict[str, Any]) -> Response:
        # The build's thread waits for this lock, so it cannot look for its overrides before they are stored.
        with _starting:
            response = start_build(data)
            if response[0] == 200 and data.get("environmentVariablesOverride"):
                _overrides[json.loads(response[2])["build"]["id"]] = copy.deepcopy(data["environmentVariablesOverride"])
            return response

    return start


def _execute(build_id: str, project: codebuild.Project) -> None:
    with _starting:
        overrides = _overrides.pop(build_id, [])
    build = codebuild.find_build(build_id)
    group = ((project.get("logsConfig") or {}).get("cloudWatchLogs") or {}).get("groupName")
    if group:
        build["logs"]["groupName"] = group
    output = BuildOutput(codebuild.log_sink(build))
    build["buildStatus"] = "IN_PROGRESS"
    role = project.get("serviceRole") or ""
    # Longer than the build's timeout, so its last call does not find an expired key.
    lifetime = codebuild.timeout_seconds(project) + 3600
    key = sessions.issue_session(f"build/{build_id}", role, f"AWSCodeBuild-{build_id.rpartition(':')[2]}", lifetime)
    with tempfile.TemporaryDirectory(prefix="codebuild-", ignore_cleanup_errors=True) as folder:
        try:
            status = _run_phases(build, project, overrides, Path(folder), build_environment.base(key), output)
        except BuildEnvironmentError as error:
            codebuild.record_phase(build, "DOWNLOAD_SOURCE", "FAILED")
            build["phases"][-1]["contexts"] = [{"statusCode": "CLIENT_ERROR", "message": str(error)}]
            output.emit(str(error))
            status = "FAILED"
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, yaml.YAMLError) as error:
            output.emit(f"the build could not run: {error!r}")
            status = "FAULT"
        finally:
            sessions.revoke(key)
    if build["buildStatus"] != "STOPPED":
        codebuild.finish_build(build, status)


def _run_phases(
    build: codebuild.Build,
    project: codebuild.Project,
    overrides: list[dict[str, str]],
    folder: Path,
    base: dict[str, str],
    output: BuildOutput,
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
    configured = (project.get("environment") or {}).get("environmentVariables") or []
    variables = [*build_environment.buildspec_variables(spec), *configured, *overrides]
    environment = {
        **base,
        "CODEBUILD_BUILD_ID": build["id"],
        "CODEBUILD_SRC_DIR": str(folder),
        **build_environment.resolved(variables, output),
    }
    for phase in _PHASES:
        commands = ((spec.get("phases") or {}).get(phase) or {}).get("commands") or []
        if not commands:
            continue
        build["currentPhase"] = phase.upper()
        timeout = codebuild.timeout_seconds(project)
        succeeded, last = _run("\n".join(commands), folder, environment, timeout, output)
        codebuild.record_phase(build, phase.upper(), "SUCCEEDED" if succeeded else "FAILED")
        if not succeeded:
            build["phases"][-1]["contexts"] = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": " | ".join(last)}]
            return "FAILED"
    return "SUCCEEDED"


def _run(
    script: str, folder: Path, environment: dict[str, str], timeout: int, output: BuildOutput
) -> tuple[bool, list[str]]:
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
        output.emit(line.rstrip("\n"))
        last = [*last, output.mask(line).strip()][-_QUOTED_LINES:]
    timer.cancel()
    return process.wait() == 0, last


def _keep_logs_config(project: str, properties: Properties) -> None:
    """Keep the project's LogsConfig, which MiniStack drops."""
    codebuild.set_logs_config(project, properties.get("LogsConfig") or {})


def _create_fleet(logical_id: str, properties: Properties, stack: str) -> Provisioned:
    name = properties.get("Name") or physical_name(stack, logical_id, max_length=128)
    arn = f"arn:aws:codebuild:{region()}:{account_id()}:fleet/{name}:{uuid.uuid4()}"
    return arn, {"Arn": arn}


def register() -> None:
    """Replace the build runner, and add fleets: builds run on this machine whatever their fleet."""
    build_environment.withhold_install_settings()
    codebuild.replace_build_runner(_execute)
    codebuild.wrap_start_build(_keeping_overrides)
    after_provisioning("AWS::CodeBuild::Project", _keep_logs_config)
    register_resource(
        "AWS::CodeBuild::Fleet",
        create=_create_fleet,
        update=lambda physical_id, *_: (physical_id, {"Arn": physical_id}),
        delete=lambda *_: None,
    )
