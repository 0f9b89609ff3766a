"""Environment variables of the container, read as SageMaker's container reads them.

Source: docker/build_artifacts/sagemaker/serve.py and tfs_utils.py of aws/sagemaker-tensorflow-serving-container.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GRPC_PORT, REST_PORT = 9000, 8501
"""Ports of a single model server, used if no port range is given."""


class SettingsError(ValueError):
    """A variable is invalid; the message names it."""


@dataclass(frozen=True, slots=True)
class Batching:
    """TensorFlow Serving's batching parameters."""

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int
    max_enqueued_batches: int

    def text(self) -> str:
        """Return the parameters as a batching parameters file."""
        return "".join(
            f"{name} {{ value: {value} }}\n"
            for name, value in (
                ("max_batch_size", self.max_batch_size),
                ("batch_timeout_micros", self.batch_timeout_micros),
                ("num_batch_threads", self.num_batch_threads),
                ("max_enqueued_batches", self.max_enqueued_batches),
            )
        )


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Settings of the container. ports: gRPC and REST port of each model server, one pair per server."""

    ports: tuple[tuple[int, int], ...]
    inter_op_parallelism: int
    intra_op_parallelism: int
    batching: Batching | None
    gunicorn_workers: int
    default_model: str | None


def read_settings(environment: Mapping[str, str]) -> ContainerSettings:
    """Read the settings from the environment; raise SettingsError."""
    count = _number(environment, "SAGEMAKER_TFS_INSTANCE_COUNT", 1, least=1)
    return ContainerSettings(
        ports=_ports(environment.get("SAGEMAKER_SAFE_PORT_RANGE"), count),
        inter_op_parallelism=_number(environment, "SAGEMAKER_TFS_INTER_OP_PARALLELISM", 0),
        intra_op_parallelism=_number(environment, "SAGEMAKER_TFS_INTRA_OP_PARALLELISM", 0),
        batching=_batching(environment),
        gunicorn_workers=_number(environment, "SAGEMAKER_GUNICORN_WORKERS", 1, least=1),
        default_model=environment.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME"),
    )


def find_models(folder: Path) -> dict[str, Path]:
    """Return servable folders by name: those with a numbered folder that holds saved_model.pb; raise SettingsError."""
    models = {
        version.parent.name: version.parent
        for version in sorted(path.parent for path in folder.rglob("saved_model.pb"))
        if version.name.isdigit()
    }
    if not models:
        raise SettingsError("no SavedModel bundles found: the archive must hold MODEL/VERSION/saved_model.pb")
    return models


def _ports(given: str | None, count: int) -> tuple[tuple[int, int], ...]:
    if given is None:
        if count > 1:
            raise SettingsError(
                f"SAGEMAKER_TFS_INSTANCE_COUNT is {count} without SAGEMAKER_SAFE_PORT_RANGE: set a range with two "
                "ports per server"
            )
        return ((GRPC_PORT, REST_PORT),)
    low, _, high = given.partition("-")
    if not (low.isdecimal() and high.isdecimal()):
        raise SettingsError(f"SAGEMAKER_SAFE_PORT_RANGE is {given!r}: it must look like 9000-9999")
    if int(low) + 2 * count > int(high):
        raise SettingsError(f"not enough ports available in SAGEMAKER_SAFE_PORT_RANGE ({given})")
    return tuple((int(low) + 2 * index, int(low) + 2 * index + 1) for index in range(count))


def _batching(environment: Mapping[str, str]) -> Batching | None:
    enabled = environment.get("SAGEMAKER_TFS_ENABLE_BATCHING", "false").lower()
    if enabled not in ("true", "false"):
        raise SettingsError("SAGEMAKER_TFS_ENABLE_BATCHING must be 'true' or 'false'")
    if enabled == "false":
        return None
    cores = os.cpu_count() or 1
    return Batching(
        _number(environment, "SAGEMAKER_TFS_MAX_BATCH_SIZE", 8, least=1),
        _number(environment, "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS", 1000),
        _number(environment, "SAGEMAKER_TFS_NUM_BATCH_THREADS", cores, least=1),
        _number(environment, "SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES", cores, least=1),
    )


def _number(environment: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    given = environment.get(name, str(default))
    if not given.isdecimal() or int(given) < least:
        raise SettingsError(f"{name} is {given!r}: it must be a whole number of at least {least}")
    return int(given)
