"""The fake of SageMaker's TensorFlow Serving container converts requests and responses as the container does."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from local_aws.fake_images.tensorflow_serving import json_text
from local_aws.fake_images.tensorflow_serving.batching import BatchQueue, BatchScheduler
from local_aws.fake_images.tensorflow_serving.bodies import JSON, JSON_LINES, MediaTypeError, to_request, to_response
from local_aws.fake_images.tensorflow_serving.errors import Code, StatusError
from local_aws.fake_images.tensorflow_serving.json_tensors import TensorInfo, from_request, tensor
from local_aws.fake_images.tensorflow_serving.settings import Batching

CSV = "text/csv"


@pytest.mark.parametrize(
    ("body", "content_type", "request_"),
    [
        ('{"instances": [1]}', JSON, '{"instances": [1]}'),
        ('{"inputs" : {"x": 1}}', JSON_LINES, '{"inputs" : {"x": 1}}'),
        ("[1.0, 2.0]", JSON, '{"instances":[[1.0, 2.0]]}'),
        ("[[1], [2]]", JSON, '{"instances":[[1], [2]]}'),
        ('{"x": 1}', JSON, '{"instances":[{"x": 1}]}'),
        ('"text"', JSON, '{"instances":["text"]}'),
        ("[1, 2]\n\n[3, 4]\r\n", JSON_LINES, '{"instances":[[1, 2],[3, 4]]}'),
        ('{"x": 1}\n{"x": 2}', JSON, '{"instances":[{"x": 1},{"x": 2}]}'),
        ("[1][2]", "application/jsons", '{"instances":[1][2]}'),
        ("1.0", CSV, '{"instances":[1.0]}'),
        ("1\n2\n5\n", CSV, '{"instances":[1,2,5]}'),
        ("1,2\n\n3,4", CSV, '{"instances":[[1,2],[3,4]]}'),
        ("cat\ndog", CSV, '{"instances":["cat","dog"]}'),
        ("cat,dog", CSV, '{"instances":[["cat","dog"]]}'),
        ('"a","b"', CSV, '{"instances":[["a","b"]]}'),
        # The script replaces only the first comma and the first quotation mark of a line.
        ("cat,dog,cow", CSV, '{"instances":[["cat","dog,cow"]]}'),
        ('so "it" is', CSV, '{"instances":["so \\"it" is"]}'),
        # What begins like a number is not quoted.
        ("elephant", CSV, '{"instances":[elephant]}'),
        ("", CSV, '{"instances":[]}'),
    ],
)
def test_a_body_becomes_the_request_that_the_script_makes_of_it(body: str, content_type: str, request_: str) -> None:
    assert to_request(body.encode(), content_type).decode() == request_


@pytest.mark.parametrize("content_type", [None, "image/png", "application/json; charset=utf-8", "TEXT/CSV"])
def test_other_media_types_are_refused_as_they_are_written(content_type: str | None) -> None:
    with pytest.raises(MediaTypeError, match=f"Unsupported Media Type: {content_type or 'Unknown'}"):
        to_request(b"x", content_type)


@pytest.mark.parametrize(
    ("accept", "body", "content_type"),
    [
        (None, b"{\n1\n}", JSON),
        ("*/*", b"{\n1\n}", JSON),
        ("text/csv", b"{\n1\n}", JSON),
        (JSON, b"{1}", JSON),
        (JSON_LINES, b"{1}", JSON_LINES),
        ("text/csv, application/json", b"{1}", CSV),
    ],
)
def test_accept_chooses_lines_and_the_media_type(accept: str | None, body: bytes, content_type: str) -> None:
    assert to_response(b"{\n1\n}", accept) == (body, content_type)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1, "float", np.float32(1)),
        ([[1, 2.5]], "double", np.array([[1, 2.5]])),
        ([float("nan"), float("-inf")], "float", np.array([np.nan, -np.inf], np.float32)),
        ([300, -1], "uint8", np.array([44, 255], np.uint8)),
        ([2**64 - 1], "uint64", np.array([2**64 - 1], np.uint64)),
        ([True, False], "bool", np.array([True, False])),
        (["é", {"b64": "/w=="}], "string", np.array(["é".encode(), b"\xff"], object)),
        ([], "int32", np.empty(0, np.int32)),
        ([[], []], "float", np.empty((2, 0), np.float32)),
    ],
)
def test_json_becomes_a_tensor_of_its_nesting_and_the_signatures_type(value: Any, dtype: str, expected: Any) -> None:
    made = tensor(value, dtype)
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ("a", "float", 'JSON Value: "a" Type: String is not of expected type: float'),
        ([True], "float", "JSON Value: true Type: True is not of expected type: float"),
        (None, "string", "JSON Value: null Type: Null is not of expected type: string"),
        (1, "string", "JSON Value: 1 Type: Number is not of expected type: string"),
        (1.0, "int32", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        (2**31, "int32", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        (-1, "uint32", "JSON Value: -1 Type: Number is not of expected type: uint32"),
        (0, "bool", "JSON Value: 0 Type: Number is not of expected type: bool"),
        ([2**24], "float", "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ([1e39], "float", "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ([[1], [2, 3]], "float", "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ([1, [2]], "float", "Encountered list at unexpected level: 1 expected < 1"),
        ([[1], 2], "float", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"b64": "?"}, "string", "Unable to base64 decode"),
        ({"b64": 1}, "string", "not formatted correctly for base64 data"),
        ({"b64": "aGk="}, "float", "Type: Object is not of expected type: float"),
        (1, "half", "Conversion of JSON Value: 1 to type: half"),
    ],
)
def test_json_that_does_not_fit_the_type_is_refused_in_tensorflow_servings_words(
    value: Any, dtype: str, message: str
) -> None:
    with pytest.raises(StatusError) as raised:
        tensor(value, dtype)
    assert message in str(raised.value)


def infos(**dtypes: str) -> dict[str, TensorInfo]:
    return {name: TensorInfo(f"{name}:0", dtype, None) for name, dtype in sorted(dtypes.items())}


def test_rows_and_columns_give_the_same_tensors() -> None:
    named = infos(tag="string", signal="float")
    rows, in_rows = from_request({"instances": [{"tag": "a", "signal": [1, 2]}, {"tag": "b", "signal": [3, 4]}]}, named)
    columns, in_columns = from_request({"inputs": {"tag": ["a", "b"], "signal": [[1, 2], [3, 4]]}}, named)
    assert (in_rows, in_columns) == (True, False)
    for name in named:
        np.testing.assert_array_equal(rows[name], columns[name])


@pytest.mark.parametrize(
    ("request_", "inputs", "message"),
    [
        ({}, infos(x="float"), "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": 1}, infos(x="float"), "expecting only one of 'inputs' or 'instances' keys"),
        ({"instances": 1}, infos(x="float"), "Excepting 'instances' to be an list/array"),
        ({"instances": []}, infos(x="float"), "No values in 'instances' array"),
        ({"instances": [1]}, infos(x="float", y="float"), "instances is a plain list, but expecting list of objects"),
        ({"inputs": [1]}, infos(x="float", y="float"), "inputs is a plain value/list, but expecting an object"),
        ({"inputs": {"x": 1}}, infos(x="float", y="float"), "Missing named input: y in 'inputs' object."),
        (
            {"instances": [{"x": 1}, {"x": 1, "z": 2}]},
            infos(x="float"),
            "Failed to process element: 1 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
            "have named input: z",
        ),
        ({"instances": [{"x": 1}]}, infos(x="float", y="float"), "keys must be equal to: x,y"),
        ({"instances": [{"x": 1}, 2]}, infos(x="float"), "Expecting object but got list at item 1 of input list"),
        ({"instances": [2, {"x": 1}]}, infos(x="float"), "Expecting value/list but got object at item 1"),
        (
            {"instances": [1, "a"]},
            infos(x="float"),
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String",
        ),
        ({"instances": [[1, 2], [1, 2, 3]]}, infos(x="float"), "Expecting tensor size: 2 but got: 3"),
        ({"instances": [[[1, 2]], [[1], [2]]]}, infos(x="float"), "Expecting shape [1,2] but got: [2,1]"),
    ],
)
def test_a_request_that_does_not_fit_the_signature_is_refused_in_tensorflow_servings_words(
    request_: dict[str, Any], inputs: dict[str, TensorInfo], message: str
) -> None:
    with pytest.raises(StatusError) as raised:
        from_request(request_, inputs)
    assert message in str(raised.value)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"whatever", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": 1} 2', "JSON Parse error: The document root must not be followed by other values. at offset: 9"),
        (b"[1]", "Is not object"),
        (b'{"a": "\xff"}', "JSON Parse error: Invalid value. at offset: 7"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=["empty", "word", "two values", "list", "not UTF-8", "deep"],
)
def test_what_is_no_json_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as raised:
        json_text.parse(body)
    assert message in str(raised.value)


def test_numbers_that_json_lacks_are_read_and_written() -> None:
    assert np.isnan(json_text.parse(b'{"x": [NaN, -Infinity]}')["x"][0])
    written = json_text.rows({"y": np.array([np.nan, np.inf, -np.inf, 1.5], np.float32)})
    assert b"[NaN, Infinity, -Infinity, 1.5\n" in written


@pytest.mark.parametrize(
    ("outputs", "rows", "columns"),
    [
        (
            {"y": np.array([3.5, 4, 0.1], np.float32)},
            '{\n    "predictions": [3.5, 4.0, 0.1\n    ]\n}',
            '{\n    "outputs": [3.5, 4.0, 0.1]\n}',
        ),
        (
            {"a": np.array([[1], [2]]), "b": np.array([b"x", b"y"], object)},
            '{\n    "predictions": [\n        {\n            "a": [1],\n            "b": "x"\n        },\n        {\n'
            '            "a": [2],\n            "b": "y"\n        }\n    ]\n}',
            '{\n    "outputs": {\n        "a": [[1], [2]],\n        "b": ["x", "y"]\n    }\n}',
        ),
        (
            {"image_bytes": np.array([b"\xff"], object)},
            '{\n    "predictions": [{"b64": "/w=="}\n    ]\n}',
            '{\n    "outputs": [{"b64": "/w=="}]\n}',
        ),
        ({"y": np.array([True])}, '{\n    "predictions": [true\n    ]\n}', '{\n    "outputs": [true]\n}'),
        ({"y": np.empty((0, 3))}, '{\n    "predictions": []\n}', '{\n    "outputs": []\n}'),
    ],
    ids=["one", "several", "bytes", "bool", "empty"],
)
def test_outputs_are_written_in_tensorflow_servings_layout(
    outputs: dict[str, NDArray[Any]], rows: str, columns: str
) -> None:
    assert json_text.rows(outputs).decode() == rows
    assert json_text.columns(outputs).decode() == columns


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.float32(1)}, "Tensor name: y has no shape information"),
        ({"a": np.ones(2), "b": np.ones(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.ones(1, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_that_row_format_cannot_hold_are_refused(outputs: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(StatusError, match=message):
        json_text.rows(outputs)


def test_a_float_is_written_with_the_digits_that_restore_it_and_no_more() -> None:
    values = np.array([0.1, 0.2, 1 / 3, 1e-30, 1e30, 16777216, 0, -0.7, 3.4e38, 1e-45], np.float32)
    written = json_text.decimals(values)
    assert written[:3].tolist() == [0.1, 0.2, 0.333333343]
    random = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    for each in (values, random):
        np.testing.assert_array_equal(json_text.decimals(each).astype(np.float32), each)
    assert max(len(repr(value)) for value in json_text.decimals(np.abs(random)).tolist()) <= 15


class Doubler:
    """Doubles its input, once it may, and keeps the size of every batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may = threading.Event()

    def __call__(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        self.batches.append(len(feeds[0]))
        assert self.may.wait(30)
        return [2 * feeds[0]]


def batched(*feeds: NDArray[Any], limits: Batching) -> tuple[list[Any], list[int]]:
    """Returns the results or errors of concurrent requests, and the sizes of the batches."""
    run, scheduler = Doubler(), BatchScheduler(limits)
    queue = BatchQueue(run, ["x:0"])
    scheduler.add(queue)

    def answer(feed: NDArray[Any]) -> Any:
        try:
            return scheduler.run(queue, [feed])[0].tolist()
        except StatusError as error:
            return error

    with ThreadPoolExecutor(len(feeds)) as executor:
        results = [executor.submit(answer, feed) for feed in feeds]
        run.may.set()
        return [result.result() for result in results], run.batches


def test_requests_are_computed_together_and_each_gets_its_own_rows() -> None:
    feeds = [np.array([[index], [index]]) for index in range(4)]
    results, batches = batched(*feeds, limits=Batching(8, 10_000_000, 1, 4))
    assert results == [[[2 * index], [2 * index]] for index in range(4)]
    assert batches == [8]


def test_a_batch_does_not_wait_for_more_than_its_time() -> None:
    results, batches = batched(np.array([1]), limits=Batching(8, 1000, 1, 4))
    assert (results, batches) == ([[2]], [1])


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        (np.ones(9), "Task size 9 is larger than maximum input batch size 8"),
        (np.float32(1), "Batching Run() input tensors must have at least one dimension"),
    ],
)
def test_what_no_batch_can_hold_is_refused(feed: NDArray[Any], message: str) -> None:
    (result,), _ = batched(feed, limits=Batching(8, 1000, 1, 4))
    assert (str(result), result.code) == (message, Code.INVALID_ARGUMENT)


def test_requests_of_other_shapes_fail_in_one_batch() -> None:
    results, _ = batched(np.ones((1, 2)), np.ones((1, 3)), limits=Batching(2, 10_000_000, 1, 4))
    for result in results:
        assert "from different tasks have different shapes and padding is turned off" in str(result)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_beyond_the_waiting_batches_is_refused_with_503() -> None:
    run, scheduler = Doubler(), BatchScheduler(Batching(1, 0, 1, 1))
    queue = BatchQueue(run, ["x:0"])
    scheduler.add(queue)
    with ThreadPoolExecutor(2) as executor:
        computed = executor.submit(scheduler.run, queue, [np.ones(1)])
        wait_until(lambda: run.batches)
        waiting = executor.submit(scheduler.run, queue, [np.ones(1)])
        wait_until(lambda: queue.batches)
        with pytest.raises(StatusError, match="queue to which this task was submitted is full") as raised:
            scheduler.run(queue, [np.ones(1)])
        run.may.set()
        assert [result.result(30)[0].tolist() for result in (computed, waiting)] == [[2], [2]]
    assert raised.value.code.http_status == 503
