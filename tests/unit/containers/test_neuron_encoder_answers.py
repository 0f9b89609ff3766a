"""What the neuron_encoder server answers with a CPU model: the same in every batch and bucket, and with segment ids."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import openvino as ov
import pytest
from fastapi import FastAPI
from openvino import opset13 as ops
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from containers.neuron_encoder.answering import Answering
from containers.neuron_encoder.app import Gate, create_app
from containers.neuron_encoder.artifact import INPUTS, Bucket, NeuronArtifact
from containers.neuron_encoder.devices import Device
from containers.neuron_encoder.devices.core import CoreGroup
from containers.neuron_encoder.devices.cpu import CpuDevice
from containers.neuron_encoder.metrics import Metrics
from containers.neuron_encoder.process import drained, warm_up
from containers.neuron_encoder.scheduler import Scheduler
from containers.neuron_encoder.tokenizing import TokenizerThreads
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Windower, WindowLimits

_Result = TypeVar("_Result")
WORDS = [f"w{index}" for index in range(40)]
VOCABULARY = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
HIDDEN = 16


def save_model(folder: Path) -> None:
    """A random encoder: embeddings of tokens and segments, one masked self-attention, start and end logits."""
    source = np.random.default_rng(7)

    def weights(*shape: int) -> ov.Node:
        return ops.constant(source.normal(size=shape).astype(np.float32))

    ids, mask, types = (ops.parameter([-1, -1], np.int64, name) for name in INPUTS)
    for parameter, name in zip((ids, mask, types), INPUTS, strict=True):
        parameter.output(0).get_tensor().set_names({name})
    zero = ops.constant(np.int64(0))
    hidden = ops.add(
        ops.gather(weights(len(VOCABULARY), HIDDEN), ids, zero), ops.gather(weights(2, HIDDEN), types, zero)
    )
    queries, keys, values = (ops.matmul(hidden, weights(HIDDEN, HIDDEN), False, False) for _ in range(3))
    scores = ops.multiply(ops.matmul(queries, keys, False, True), ops.constant(np.float32(0.1)))
    hide = ops.multiply(
        ops.subtract(ops.constant(np.float32(1)), ops.convert(mask, "f32")), ops.constant(np.float32(-1e9))
    )
    mixed = ops.matmul(
        ops.softmax(ops.add(scores, ops.unsqueeze(hide, ops.constant(np.int64(1)))), -1), values, False, False
    )
    logits = ops.split(ops.matmul(ops.add(hidden, mixed), weights(HIDDEN, 2), False, False), 2, 2)
    outputs = [ops.squeeze(logits.output(index), ops.constant(np.int64(2))) for index in range(2)]
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.Model(outputs, [ids, mask, types], "tiny"), folder / "model.xml", compress_to_fp16=False)


def artifact(*shapes: tuple[int, int]) -> NeuronArtifact:
    return NeuronArtifact(
        target="cpu",
        sdk={},
        inputs=INPUTS,
        buckets=tuple(Bucket(length=length, batch=batch, file="model.xml") for length, batch in shapes),
        cores_per_copy=1,
        device_bytes=0,
    )


class WithoutSegments:
    """The published trace: a device that is not given token_type_ids."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        blank = np.zeros_like(batch.token_type_ids)
        return self._device.run(EncoderBatch(batch.input_ids, batch.attention_mask, blank))


def windower(longest: int) -> Windower:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Windower(tokenizer, WindowLimits(longest, 4, 8))


def serving(
    folder: Path,
    use: Callable[[FastAPI, Gate], Awaitable[_Result]],
    *shapes: tuple[int, int],
    capacity: int = 256,
    wrap: Callable[[Device], Device] = lambda device: device,
) -> _Result:
    """Runs `use` with the application of core 3 and its two models."""
    if not (folder / "model.xml").exists():
        save_model(folder)

    async def go() -> _Result:
        traced, core = artifact(*(shapes or ((16, 1), (16, 4), (32, 1), (32, 4)))), CoreGroup((3,))
        devices = [wrap(CpuDevice.load(folder, traced, core, 1)) for _ in range(2)]
        seconds = warm_up(traced, devices)
        metrics = Metrics(core, 2, lambda model: answering.queued(model))
        scheduler = Scheduler(traced, devices, metrics, seconds, deadline_seconds=0.002, capacity=capacity)
        tokenizer = TokenizerThreads(windower(traced.lengths[-1]), 2)
        answering = Answering(tokenizer, scheduler, models=2, capacity=capacity)
        gate = Gate()
        try:
            return await use(create_app(answering, core, metrics, "fp32", gate), gate)
        finally:
            await answering.close()

    return asyncio.run(go())


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://container")


def send(
    folder: Path, requests: Sequence[tuple[str, object]], *shapes: tuple[int, int], **options: object
) -> list[httpx.Response]:
    """All requests at once, as POST of JSON or of bytes."""

    async def use(app: FastAPI, _gate: Gate) -> list[httpx.Response]:
        async with client(app) as http:
            return await asyncio.gather(
                *(
                    http.post(
                        url,
                        content=body if isinstance(body, bytes) else json.dumps(body).encode(),
                        headers={"content-type": "application/json"},
                    )
                    for url, body in requests
                )
            )

    return serving(folder, use, *shapes, **options)  # type: ignore[arg-type]


def items(count: int, *, longest: int = 24) -> list[dict[str, str]]:
    source = np.random.default_rng(3)
    return [
        {"question": "w1 w2", "context": " ".join(source.choice(WORDS, int(source.integers(1, longest))))}
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    save_model(made)
    return made


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    return one == {**other, "score": pytest.approx(other["score"], abs=1e-4)}


def test_batched_bucketed_and_single_answers_are_equal(folder: Path) -> None:
    asked = items(24)
    together = [response.json() for response in send(folder, [("/invocations", item) for item in asked])]
    as_list = send(folder, [("/invocations", asked)])[0].json()
    single = [send(folder, [("/invocations", item)], (32, 1))[0].json() for item in asked[:6]]
    exact = send(folder, [("/invocations", item) for item in asked], *((length, 1) for length in range(8, 33)))
    for position, answer in enumerate(together):
        assert same(answer, as_list[position])
        assert same(answer, exact[position].json())
        context = asked[position]["context"]
        assert context[answer["start"] : answer["end"]] == answer["answer"]
    assert all(same(one, other) for one, other in zip(together[:6], single, strict=True))


def test_dropping_segment_ids_changes_an_answer(folder: Path) -> None:
    requests = [("/invocations", item) for item in items(24)]
    whole = [response.json()["answer"] for response in send(folder, requests)]
    dropped = [response.json()["answer"] for response in send(folder, requests, wrap=WithoutSegments)]
    assert whole != dropped


def test_a_context_longer_than_the_longest_bucket_is_cut_into_windows(folder: Path) -> None:
    context = " ".join(WORDS * 3)
    (response,) = send(folder, [("/invocations", {"question": "w1", "context": context})])
    answer = response.json()
    assert response.status_code == 200
    assert context[answer["start"] : answer["end"]] == answer["answer"] != ""


def test_every_model_of_the_core_answers_under_the_published_path(folder: Path) -> None:
    (item,) = items(1)
    answers = [
        response.json()
        for response in send(folder, [(f"/predictions_neuron_core_3/model_{model}", item) for model in range(2)])
    ]
    assert same(*answers)


@pytest.mark.parametrize(
    "path",
    [
        "/predictions_neuron_core_0/model_0",
        "/predictions_neuron_core_3/model_2",
        "/predictions_neuron_core_x/model_00",
    ],
)
def test_an_unknown_core_or_model_is_a_404_with_the_list_of_what_is_there(folder: Path, path: str) -> None:
    (response,) = send(folder, [(path, items(1)[0])])
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert "/predictions_neuron_core_3/model_0, /predictions_neuron_core_3/model_1" in message


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"hello", "invalid_json", None),
        (b"[]", "empty_list", None),
        ({"question": "w1"}, "invalid_field", None),
        ({"question": "w1", "context": 7}, "invalid_field", "context"),
        ({"question": "w1", "context": " "}, "empty_field", "context"),
        ({"question": "w1", "context": "w2", "precision": "int8"}, "wrong_precision", "precision"),
        ({"question": "w1", "context": "w2 " * 5000}, "context_too_long", "context"),
    ],
)
def test_a_bad_body_is_a_400_that_names_field_and_fix(folder: Path, body: object, code: str, field: str | None) -> None:
    (response,) = send(folder, [("/invocations", body)])
    assert response.status_code == 400
    assert (response.json()["error"]["code"], response.json()["error"].get("field")) == (code, field)


def test_a_body_over_the_limit_is_a_413(folder: Path) -> None:
    assert send(folder, [("/invocations", b"x" * (MAX_BODY_BYTES + 1))])[0].status_code == 413


def test_another_media_type_is_a_415_and_other_paths_are_json_errors(folder: Path) -> None:
    async def use(app: FastAPI, _gate: Gate) -> list[httpx.Response]:
        async with client(app) as http:
            return [
                await http.post("/invocations", content=b"a", headers={"content-type": "text/csv"}),
                await http.get("/elsewhere"),
                await http.get("/invocations"),
            ]

    media, nowhere, method = serving(folder, use)
    assert (media.status_code, nowhere.status_code, method.status_code) == (415, 404, 405)
    assert "POST /invocations" in nowhere.json()["error"]["message"]


def test_a_full_queue_is_a_503_with_retry_after_and_what_waits_is_answered(folder: Path) -> None:
    responses = send(folder, [("/predictions_neuron_core_3/model_0", item) for item in items(6)], capacity=3)
    refused = [response for response in responses if response.status_code == 503]
    assert len(refused) == 3
    assert all(response.headers["retry-after"] == "1" for response in refused)
    assert sum(response.status_code == 200 for response in responses) == 3


def test_a_server_that_drains_refuses_what_is_new_and_waits_for_what_is_in_work(folder: Path) -> None:
    async def use(app: FastAPI, gate: Gate) -> tuple[bool, httpx.Response, httpx.Response]:
        async with client(app) as http:
            gate.active = 1
            draining = asyncio.create_task(drained(gate))
            while not gate.draining:
                await asyncio.sleep(0)
            ping = await http.get("/ping")
            refused = await http.post("/invocations", json=items(1)[0])
            waited = not draining.done()
            gate.active -= 1
            await draining
            return waited, ping, refused

    waited, ping, refused = serving(folder, use)
    assert waited
    assert (ping.status_code, refused.status_code) == (503, 503)
    assert refused.headers["retry-after"] == "1"


def test_a_failure_in_the_model_is_a_500_and_the_next_request_is_served(folder: Path) -> None:
    fails = [False]

    class Fails:
        def __init__(self, device: Device) -> None:
            self._device = device

        def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            if fails[0]:
                raise RuntimeError("secret detail")
            return self._device.run(batch)

    async def use(app: FastAPI, _gate: Gate) -> list[httpx.Response]:
        found = []
        async with client(app) as http:
            for failing in (True, False):
                fails[0] = failing
                found.append(await http.post("/invocations", json=items(1)[0]))
        return found

    failed, served = serving(folder, use, wrap=Fails)
    assert (failed.status_code, served.status_code) == (500, 200)
    assert "secret" not in failed.text


def test_metrics_count_requests_failures_batches_and_the_cores_busy_time(folder: Path) -> None:
    async def use(app: FastAPI, _gate: Gate) -> str:
        async with client(app) as http:
            await http.post("/predictions_neuron_core_3/model_1", json=items(1)[0])
            await http.post("/predictions_neuron_core_3/model_9", json=items(1)[0])
            return (await http.get("/metrics")).text

    text = serving(folder, use)
    assert 'neuron_encoder_requests_total{core="3",model="1",status="200"} 1.0' in text
    assert 'neuron_encoder_failures_total{code="not_found",core="3"} 1.0' in text
    assert 'neuron_encoder_batch_rows_sum{core="3",model="1"} 1.0' in text
    assert 'neuron_encoder_request_seconds_count{core="3",model="1"} 1.0' in text
    assert 'neuron_encoder_queue_windows{core="3",model="0"} 0.0' in text
    busy = next(line for line in text.splitlines() if line.startswith("neuron_encoder_core_busy_seconds_total"))
    assert float(busy.split()[-1]) > 0
