#!/usr/bin/env python3
"""What `CDK_DOCKER` names in the local account: builds images as folders with an environment, or by Podman."""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from string import Template
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from containers.serving.contract import REQUIREMENTS_LABEL
from local_aws.account import CACHE_VARIABLE, STATE_VARIABLE, Engine, engine
from local_aws.environments import EnvironmentSetupError, environment, with_included
from local_aws.hosting.images import Image, find
from local_aws.podman import base_image
from local_aws.podman import engine as podman_engine
from local_aws.podman.build import build as podman_build
from local_aws.podman.engine import EngineError
from model_build.owned_folders import FolderRefusedError, remove_within

_REFERENCE = re.compile(r"^(?P<account>\d+)\.dkr\.ecr\.(?P<region>[^.]+)\.[^/]+/(?P<repository>.+):(?P<tag>[^:]+)$")
_IGNORED = frozenset({"ARG", "FROM", "USER", "EXPOSE", "CMD", "STOPSIGNAL", "HEALTHCHECK", "COMMENT"})


_PODMAN = "build and run images in Podman with `inference local up --engine podman`"


class UnsupportedError(Exception):
    """The shim cannot do what it was asked; the message says what it can."""


def build(
    state: Path, cache: Path, context: Path, dockerfile: Path, tag: str, build_args: Mapping[str, str] | None = None
) -> None:
    """Lays out the last stage of a Dockerfile: COPY from the context, ENV, WORKDIR, ENTRYPOINT and LABEL.

    The image's environment is made from the requirements file that the label names, which a stage before the last must
    copy with all that it includes, since a real build installs there and has nothing else. build_args: values of
    `--build-arg`; an ARG without one has its default.
    """
    from dockerfile_parse import DockerfileParser  # only a build needs it

    with dockerfile.open("rb") as file:
        instructions = DockerfileParser(fileobj=file).structure
    last_stage = max(index for index, entry in enumerate(instructions) if entry["instruction"] == "FROM")
    arguments = _arguments(instructions, build_args or {})
    parts = [str(context.resolve()), json.dumps(arguments, sort_keys=True), dockerfile.read_text()]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    rootfs = state / "images" / digest
    remove_within(state, rootfs)
    workdir, entrypoint = "/", []
    variables: dict[str, str] = {}
    labels: dict[str, str] = {}
    copied_before: list[str] = []
    for index, entry in enumerate(instructions):
        name, value = entry["instruction"], Template(entry["value"]).safe_substitute(arguments)
        if index < last_stage:
            if name == "COPY" and "--from=" not in value:
                copied_before.append(value)
        elif name == "WORKDIR":
            workdir = value
        elif name == "ENTRYPOINT":
            entrypoint = json.loads(value)
        elif name in ("ENV", "LABEL"):
            pairs = dict(re.findall(r'([\w.-]+)="?([^"\s]*)"?', value))
            (variables if name == "ENV" else labels).update(pairs)
        elif name == "COPY":
            if "--from=" not in value:
                _copy(context, rootfs, workdir, value)
        elif name not in _IGNORED:
            raise UnsupportedError(
                f"{dockerfile.name} has {name} in its last stage, which only a container engine can run: {_PODMAN}"
            )
    if REQUIREMENTS_LABEL not in labels:
        raise UnsupportedError(
            f"{dockerfile.name} has no LABEL {REQUIREMENTS_LABEL}, which names the image's requirements file: add it, "
            f"or {_PODMAN}"
        )
    requirements = context / labels[REQUIREMENTS_LABEL]
    _require_copied(context, requirements, dockerfile.name, copied_before)
    venv = environment(cache, "image", requirements, "--no-deps")
    Image(str(rootfs), workdir, tuple(entrypoint), variables, str(venv)).save(state, tag)


def build_by_podman(
    state: Path, cache: Path, context: Path, dockerfile: Path, tag: str, build_args: Mapping[str, str]
) -> None:
    """Build the Dockerfile with Podman; raises EngineError."""
    podman = podman_engine.require(cache)
    base = base_image.prepare(podman, None, lambda line: print(line, file=sys.stderr, flush=True))
    built = podman_build(podman, base, context, dockerfile, f"localhost/{tag}", build_args)
    note = f"its base is {base.note}" if base.note else ""
    Image("", "/", (), {}, "", note, built.id, built.digest).save(state, tag)


def _arguments(instructions: list[dict[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
    declared = (entry["value"].partition("=") for entry in instructions if entry["instruction"] == "ARG")
    defaults = {name: value for name, separator, value in declared if separator}
    return {**defaults, **given}


def _require_copied(context: Path, requirements: Path, dockerfile: str, copies: list[str]) -> None:
    sources = [os.path.normpath(source) for value in copies for source in _parts(value)[0]]
    for path in with_included(requirements):
        wanted = os.path.relpath(path, context)
        if not any(
            source == "." or fnmatchcase(wanted, source) or wanted.startswith(f"{source}/") for source in sources
        ):
            raise UnsupportedError(f"{dockerfile}: it installs {wanted}, which no stage before the last copies")


def _parts(copy: str) -> tuple[list[str], str]:
    """Return the sources and the target of a COPY."""
    *sources, target = [part for part in copy.split() if not part.startswith("--")]
    return sources, target


def _copy(context: Path, rootfs: Path, workdir: str, value: str) -> None:
    sources, target = _parts(value)
    base = Path(workdir, target)
    for source in sources:
        if not (context / source).exists():
            raise UnsupportedError(f"COPY {value}: {source} is not in the build context")
        place = rootfs / base.relative_to("/")
        if target.endswith("/"):
            place = place / Path(source).name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (context / source).is_dir():
            shutil.copytree(context / source, place, dirs_exist_ok=True)
        else:
            shutil.copy(context / source, place)


def push(state: Path, reference: str) -> None:
    """Record the image in the account's ECR and under its repository name."""
    import boto3  # only a push needs it

    match, image = _REFERENCE.match(reference), find(state, reference)
    if match is None or image is None:
        raise UnsupportedError(f"{reference} is not an image of this account that was built and tagged")
    config = json.dumps({"rootfs": image.rootfs, "digest": image.digest}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": f"sha256:{hashlib.sha256(config).hexdigest()}",
        },
        "layers": [],
    }
    boto3.client("ecr", region_name=match["region"]).put_image(
        repositoryName=match["repository"], imageTag=match["tag"], imageManifest=json.dumps(manifest)
    )


def main(arguments: list[str]) -> int:
    """Run one docker command; return its exit code."""
    state, cache = Path(os.environ[STATE_VARIABLE]), Path(os.environ[CACHE_VARIABLE])
    match arguments:
        case ["login", *_]:
            sys.stdin.read()
        case ["version" | "--version", *_]:
            print("the local account's docker")
        case ["inspect", *_, tag]:
            if find(state, tag) is None:
                print(f"Error: No such object: {tag}", file=sys.stderr)
                return 1
            print("[]")
        case ["build", *options, context]:
            pairs = [(options[i], options[i + 1]) for i in range(len(options) - 1) if options[i].startswith("-")]
            named = dict(pairs)
            build_args = dict(value.split("=", 1) for option, value in pairs if option == "--build-arg")
            dockerfile = Path(context) / named.get("--file", "Dockerfile")
            make = build_by_podman if engine() is Engine.PODMAN else build
            make(state, cache, Path(context), dockerfile, named.get("--tag", named.get("-t", "")), build_args)
        case ["tag", old, new]:
            image = find(state, old)
            if image is None:
                raise UnsupportedError(f"there is no image {old}")
            image.save(state, _REFERENCE.sub(r"\g<repository>:\g<tag>", new))
        case ["push", reference]:
            push(state, reference)
        case _:
            raise UnsupportedError(f"docker {' '.join(arguments)}: the shim knows login, inspect, build, tag and push")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (UnsupportedError, EnvironmentSetupError, EngineError, FolderRefusedError) as error:
        sys.exit(f"error: {error}")
