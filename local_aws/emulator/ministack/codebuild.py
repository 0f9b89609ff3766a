"""CodeBuild's projects and builds."""

from collections.abc import Callable, Collection
from typing import Any

from ministack.services import codebuild
from ministack.services.cloudformation import provisioners

from local_aws.emulator.ministack.responses import Response

Build = dict[str, Any]
"""A build's record, with the members that BatchGetBuilds returns."""
Project = dict[str, Any]
"""A project's record, with the members that BatchGetProjects returns."""
StartBuild = Callable[[dict[str, Any]], Response]
"""Handler of StartBuild: takes the request."""


def all_builds() -> Collection[Build]:
    """Return the records of all builds."""
    builds: Collection[Build] = codebuild._builds.values()
    return builds


def find_build(build_id: str) -> Build:
    """Return the record of an existing build."""
    build: Build = codebuild._builds.get(build_id)
    return build


def log_sink(build: Build) -> Callable[[str], object]:
    """Return a function that writes a line to the log of a build."""
    write: Callable[[str], object] = codebuild._log_sink(build)
    return write


def timeout_seconds(project: Project) -> int:
    """Return the longest time that a build of a project may take."""
    seconds: int = codebuild._timeout_seconds(project)
    return seconds


def record_phase(build: Build, phase: str, status: str) -> None:
    """Append a phase that has ended to a build's phases."""
    codebuild._record_phase(build, phase, status)


def finish_build(build: Build, status: str) -> None:
    """End a build with a status such as `SUCCEEDED`."""
    codebuild._finish_build(build, status)


def set_logs_config(project: str, config: dict[str, Any]) -> None:
    """Set a project's logs configuration, given in CloudFormation's form."""
    codebuild._projects[project]["logsConfig"] = provisioners._codebuild_cfn_to_api(config)


def replace_build_runner(execute: Callable[[str, Project], None]) -> None:
    """Run each build with this function, which takes the build's ID, on the build's own thread."""
    codebuild.EXECUTE_BUILDS = True
    codebuild._execute_build = execute


def wrap_start_build(wrap: Callable[[StartBuild], StartBuild]) -> None:
    """Replace the handler of StartBuild with what `wrap` returns for it."""
    codebuild._start_build = wrap(codebuild._start_build)
