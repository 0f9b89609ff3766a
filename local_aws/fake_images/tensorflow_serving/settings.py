"""Environment variables of the container, read as SageMaker's container reads them.

Source: docker/build_artifacts/sagemaker/serve.py and tfs_utils.py of aws/sagemaker-tensorflow-serving-container.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

GRPC_PORT, REST_PORT = 9000, 8501
"""Ports of a single model server, used if no port range is given."""
LOADED_PATH = "/local/models"
"""Path of the fake's own requests that load and unload models in a running process. The image starts a model server for
each model, which would take half a gigabyte each here."""
_PORT_RANGE = "SAGEMAKER_SAFE_PORT_RANGE"
_UNIVERSAL = ("SAGEMAKER_MULTI_MODEL_UNIVERSAL_BUCKET", "SAGEMAKER_MULTI_MODEL_UNIVERSAL_PREFIX")
_PORT_SHARE = 0.9
"""Share of the ports that the container gives to models in multi-model mode."""


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
    """Settings of the container.

    ports: gRPC and REST port of each model server, one pair per server. proxy_timeout_seconds: how long nginx waits for
    a response. multi_model: whether models are loaded on request. max_models: most of them; None without a port range.
    """

    ports: tuple[tuple[int, int], ...]
    inter_op_parallelism: int
    intra_op_parallelism: int
    batching: Batching | None
    gunicorn_workers: int
    default_model: str | None
    proxy_timeout_seconds: int
    multi_model: bool
    max_models: int | None


def read_settings(environment: Mapping[str, str]) -> ContainerSettings:
    """Read the settings from the environment; raise SettingsError."""
    count = _number(environment, "SAGEMAKER_TFS_INSTANCE_COUNT", 1, least=1)
    given = environment.get(_PORT_RANGE)
    span = None if given is None else _range(given)
    default_model = environment.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", "None")
    if all(environment.get(name) for name in _UNIVERSAL):
        raise SettingsError(
            f"{' and '.join(_UNIVERSAL)} are set: the fake downloads no scripts; put code/inference.py into the "
            "archive of each model"
        )
    return ContainerSettings(
        ports=_ports(span, count),
        inter_op_parallelism=_number(environment, "SAGEMAKER_TFS_INTER_OP_PARALLELISM", 0),
        intra_op_parallelism=_number(environment, "SAGEMAKER_TFS_INTRA_OP_PARALLELISM", 0),
        batching=_batching(environment),
        gunicorn_workers=_number(environment, "SAGEMAKER_GUNICORN_WORKERS", 1, least=1),
        default_model=None if default_model == "None" else default_model,
        proxy_timeout_seconds=max(
            _number(environment, "SAGEMAKER_NGINX_PROXY_READ_TIMEOUT_SECONDS", 60, least=1),
            _number(environment, "SAGEMAKER_GUNICORN_TIMEOUT_SECONDS", 30),
        ),
        multi_model=_switch(environment, "SAGEMAKER_MULTI_MODEL"),
        max_models=None if span is None else _max_models(span, count),
    )


def _range(given: str) -> tuple[int, int]:
    low, _, high = given.partition("-")
    if not (low.isdecimal() and high.isdecimal()):
        raise SettingsError(f"{_PORT_RANGE} is {given!r}: it must look like 9000-9999")
    return int(low), int(high)


def _ports(span: tuple[int, int] | None, count: int) -> tuple[tuple[int, int], ...]:
    if span is None:
        if count > 1:
            raise SettingsError(
                f"SAGEMAKER_TFS_INSTANCE_COUNT is {count} without {_PORT_RANGE}: set a range with two ports per server"
            )
        return ((GRPC_PORT, REST_PORT),)
    low, high = span
    if low + 2 * count > high:
        raise SettingsError(f"not enough ports available in {_PORT_RANGE} ({low}-{high})")
    return tuple((low + 2 * index, low + 2 * index + 1) for index in range(count))


def _max_models(span: tuple[int, int], count: int) -> int:
    """Return how many models find a port for each of their servers and APIs."""
    return int((span[1] - span[0]) * _PORT_SHARE) // 2 // count


def _switch(environment: Mapping[str, str], name: str) -> bool:
    given = environment.get(name, "false").lower()
    if given not in ("true", "false"):
        raise SettingsError(f"{name} must be 'true' or 'false'")
    return given == "true"


def _batching(environment: Mapping[str, str]) -> Batching | None:
    if not _switch(environment, "SAGEMAKER_TFS_ENABLE_BATCHING"):
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
