"""The TensorFlow Serving container settings that a sweep tries, one group of knobs after the other."""

from dataclasses import dataclass

from stacks.settings.tensorflow_serving import Batching, TensorFlowServing

PUBLISHED_VCPUS_PER_PROCESS = 8
"""The published U-Net endpoint runs 8 TensorFlow Serving processes on the 64 vCPUs of ml.g4dn.16xlarge."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings to try, with a label that names the values they set."""

    label: str
    knobs: TensorFlowServing


def candidate(knobs: TensorFlowServing) -> Candidate:
    """Label settings by how they differ from the container's defaults."""
    parts = []
    for name, value in knobs.model_dump(exclude_defaults=True).items():
        if name == "batching":
            assert knobs.batching is not None
            parts.append(f"batches of {knobs.batching.max_batch_size}, {knobs.batching.batch_timeout_micros} us")
        elif name != "port_range":
            parts.append(f"{_SHORT.get(name, name)} {value}")
    return Candidate(", ".join(parts) or "defaults", knobs)


_SHORT = {
    "inter_op_parallelism": "inter-op",
    "intra_op_parallelism": "intra-op",
    "instance_count": "processes",
    "gunicorn_workers": "gunicorn workers",
}


def parallelism(vcpus: int) -> list[Candidate]:
    """Return the container's defaults, then threads and processes that fill the vCPUs, then the published ratio."""
    counts = sorted({1, 2, vcpus // 2, vcpus} & set(range(1, vcpus + 1)))
    # (1, None) leaves intra-op threads at their default: one process on all vCPUs.
    shares = [(1, None), (1, 1), *((count, max(1, vcpus // count)) for count in counts if count > 1)]
    knobs = [
        TensorFlowServing(inter_op_parallelism=inter, intra_op_parallelism=intra, instance_count=count)
        for inter in (None, 1)
        for count, intra in shares
    ]
    knobs.append(
        TensorFlowServing(
            inter_op_parallelism=1,
            intra_op_parallelism=1,
            instance_count=max(1, vcpus // PUBLISHED_VCPUS_PER_PROCESS),
        )
    )
    return _each_once(knobs)


def batching(base: TensorFlowServing, vcpus: int, clients: int) -> list[Candidate]:
    """Return the base with batch sizes that the clients can fill, each with a short and a long batch timeout."""
    if clients < 2:
        return []
    sizes = sorted({2, min(8, clients)})
    knobs = [
        base.model_copy(
            update={
                "batching": Batching(
                    max_batch_size=size,
                    batch_timeout_micros=micros,
                    num_batch_threads=max(1, vcpus // size),
                    max_enqueued_batches=4 * clients,
                )
            }
        )
        for size in sizes
        for micros in (1000, 10_000)
    ]
    return _each_once(knobs)


def python_service(base: TensorFlowServing, vcpus: int) -> list[Candidate]:
    """Return the base with more workers for `inference.py`; without that script they would do nothing."""
    return _each_once([base.model_copy(update={"gunicorn_workers": count}) for count in sorted({2, vcpus, 2 * vcpus})])


def _each_once(knobs: list[TensorFlowServing]) -> list[Candidate]:
    return [candidate(each) for each in dict.fromkeys(knobs)]
