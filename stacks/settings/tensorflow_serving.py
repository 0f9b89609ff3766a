"""The knobs of SageMaker's TensorFlow Serving container, as typed settings that know which of them do something."""

from typing import Self

from pydantic import Field, model_validator

from stacks.settings.base import Settings

FIRST_PORT = 9000
"""Where the container's own ports begin by default."""


class Batching(Settings):
    """Server-side batching of TensorFlow Serving."""

    max_batch_size: int = Field(default=8, ge=1, le=1024)
    """Images per batch."""
    batch_timeout_micros: int = Field(default=1000, ge=0, le=1_000_000)
    """How long the first request of a batch waits for others, in microseconds."""
    num_batch_threads: int | None = Field(default=None, ge=1, le=256)
    """Batches computed at the same time."""
    max_enqueued_batches: int | None = Field(default=None, ge=1, le=100_000)
    """Waiting batches beyond which requests are rejected."""


class TensorFlowServing(Settings):
    """Settings of SageMaker's TensorFlow Serving container; None leaves the container's default.

    Source: docker/build_artifacts/sagemaker/serve.py and tfs_utils.py of aws/sagemaker-tensorflow-serving-container.
    """

    gunicorn_workers: int | None = Field(default=None, ge=1, le=512)
    """Workers of the Python service, which runs only with an `inference.py`."""
    gunicorn_threads: int | None = Field(default=None, ge=1, le=512)
    """Threads per worker of the Python service."""
    inter_op_parallelism: int | None = Field(default=None, ge=0, le=512)
    """Threads that TensorFlow uses between operations; 0 lets TensorFlow choose."""
    intra_op_parallelism: int | None = Field(default=None, ge=0, le=512)
    """Threads that TensorFlow uses within one operation; 0 lets TensorFlow choose."""
    instance_count: int = Field(default=1, ge=1, le=64)
    """TensorFlow Serving processes in one container."""
    port_range: tuple[int, int] | None = None
    """First and last port of these processes, which need two each."""
    batching: Batching | None = None
    """Server-side batching. Without it, none."""
    omp_num_threads: int | None = Field(default=None, ge=1, le=512)
    """OMP_NUM_THREADS of the container."""

    @model_validator(mode="after")
    def _enough_ports(self) -> Self:
        if self.port_range is not None:
            first, last = self.port_range
            if not 1024 <= first < last <= 65535:
                raise ValueError(f"port_range is {first} to {last}: give two ports from 1024 to 65535, the lower first")
            if first + 2 * self.instance_count > last:
                raise ValueError(
                    f"port_range is {first} to {last} with instance_count {self.instance_count}: the container wants "
                    f"two ports a process and ends without them; give {first} to {first + 2 * self.instance_count}"
                )
        return self

    def environment(self) -> dict[str, str]:
        """Return the container's environment variables."""
        ports = self.port_range
        if ports is None and self.instance_count > 1:
            # Without a range the container has ports for one process, and fails at the second.
            ports = (FIRST_PORT, FIRST_PORT + 2 * self.instance_count)
        values = {
            "SAGEMAKER_GUNICORN_WORKERS": self.gunicorn_workers,
            "SAGEMAKER_GUNICORN_THREADS": self.gunicorn_threads,
            "SAGEMAKER_TFS_INTER_OP_PARALLELISM": self.inter_op_parallelism,
            "SAGEMAKER_TFS_INTRA_OP_PARALLELISM": self.intra_op_parallelism,
            "SAGEMAKER_TFS_INSTANCE_COUNT": self.instance_count if self.instance_count > 1 else None,
            "SAGEMAKER_SAFE_PORT_RANGE": f"{ports[0]}-{ports[1]}" if ports else None,
            "OMP_NUM_THREADS": self.omp_num_threads,
        }
        if self.batching is not None:
            values |= {
                "SAGEMAKER_TFS_MAX_BATCH_SIZE": self.batching.max_batch_size,
                "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": self.batching.batch_timeout_micros,
                "SAGEMAKER_TFS_NUM_BATCH_THREADS": self.batching.num_batch_threads,
                "SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES": self.batching.max_enqueued_batches,
            }
        made = {name: str(value) for name, value in values.items() if value is not None}
        return made | ({"SAGEMAKER_TFS_ENABLE_BATCHING": "true"} if self.batching else {})

    def without_effect(self, *, inference_script: bool, vcpus: int) -> list[str]:
        """Return which settings have no effect or a bad one on an instance with that many vCPUs, one line each."""
        found = []
        if not inference_script:
            found += [
                f"{name} is {value}: the Python service that it is for runs only with an inference.py in the model's "
                "code/; without one nginx passes requests to TensorFlow Serving directly"
                for name, value in (
                    ("gunicorn_workers", self.gunicorn_workers),
                    ("gunicorn_threads", self.gunicorn_threads),
                )
                if value is not None
            ]
        if self.gunicorn_threads is not None and self.gunicorn_threads > 1 and inference_script:
            found.append(
                f"gunicorn_threads is {self.gunicorn_threads}: the container's workers are of gunicorn's gevent class, "
                "which has no threads; use gunicorn_workers"
            )
        if self.omp_num_threads is not None:
            found.append(
                f"omp_num_threads is {self.omp_num_threads}: TensorFlow's own builds run oneDNN on TensorFlow's "
                "threads, not OpenMP's; use intra_op_parallelism"
            )
        if self.batching is not None and self.batching.max_batch_size == 1:
            found.append("batching.max_batch_size is 1: a batch of one request only costs the wait; leave batching out")
        threads = self.intra_op_parallelism or vcpus
        if self.instance_count > 1 and self.instance_count * threads > vcpus:
            found.append(
                f"instance_count {self.instance_count} times intra_op_parallelism "
                f"{self.intra_op_parallelism or f'{vcpus}, the default,'} is more than the instance's {vcpus} vCPUs: "
                f"the processes take each other's time; set intra_op_parallelism {max(1, vcpus // self.instance_count)}"
            )
        return found
