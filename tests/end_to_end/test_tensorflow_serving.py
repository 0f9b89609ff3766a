"""The fake of SageMaker's TensorFlow Serving image answers users' own SavedModels as the image does."""

import base64
import concurrent.futures
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_aws.hosting import launch
from tests.end_to_end.tensorflow_serving import JSON, Container, Program, running, start, wheel

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]
HALF, DENSE, WORDS, EDGES = (f"tfs-model-name={name}" for name in ("half_plus", "dense", "words", "edges"))
REGRESS, CLASSIFY = "tensorflow/serving/regress", "tensorflow/serving/classify"
CSV = "text/csv"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program.made(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def container(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """All models in one archive, without code."""
    folder = tmp_path_factory.mktemp("plain")
    shutil.copytree(program.models, folder / "model")
    with running(program, folder) as served:
        yield served


@pytest.mark.parametrize(
    ("body", "content_type", "predictions"),
    [
        (b'{"instances": [1.0, 2.0, 5.0]}', JSON, [4.5, 5.0, 6.5]),
        (b'{"instances": [[1.0, 2.0], [5.0, 6.0]]}', JSON, [[4.5, 5.0], [6.5, 7.0]]),
        (b"[1.0, 2.0, 5.0]", JSON, [[4.5, 5.0, 6.5]]),
        (b"[[1.0], [2.0]]", JSON, [[4.5], [5.0]]),
        (b'{"x": [1.0]}\n{"x": [2.0]}', JSON, [[4.5], [5.0]]),
        (b"[1.0, 2.0]\n[5.0, 6.0]\n", "application/jsonlines", [[4.5, 5.0], [6.5, 7.0]]),
        (b"1.0\n2.0", CSV, [4.5, 5.0]),
        (b"1.0,2.0\n5.0,6.0", CSV, [[4.5, 5.0], [6.5, 7.0]]),
    ],
)
def test_instances_have_the_shape_of_their_text_whatever_shape_the_signature_names(
    container: Container, body: bytes, content_type: str, predictions: Any
) -> None:
    response = container.invoke(body, HALF, content_type)
    assert (response.status_code, response.json()) == (200, {"predictions": predictions})


def test_every_version_is_served_under_its_number_and_the_highest_by_default(container: Container) -> None:
    predictions = [
        container.invoke([1.0], HALF + attribute).json()["predictions"]
        for attribute in ("", ",tfs-model-version=123", ",tfs-model-version=124")
    ]
    assert predictions == [[[4.5]], [[3.5]], [[4.5]]]
    response = container.invoke([1.0], f"{HALF},tfs-model-version=7")
    assert response.status_code == 404
    assert response.json() == {"error": "Servable not found for request: Specific(half_plus, 7)"}


def test_the_first_model_is_the_default(container: Container) -> None:
    body = {"instances": [{"x": [1.0, 2.0], "y": [3.0, 4.0]}]}
    assert container.invoke(body, "").json() == {"predictions": [{"product": [5.0], "sum": [4.0, 6.0]}]}


def test_regress_and_classify_take_examples_with_their_context(container: Container) -> None:
    examples = {"signature_name": REGRESS, "examples": [{"x": 1.0}, {"x": [2.0]}], "context": {"y": 10.0}}
    response = container.invoke(examples, f"{HALF},tfs-method=regress")
    assert response.json() == {"results": [14.5, 15.0]}
    examples = {"signature_name": CLASSIFY, "examples": [{"x": 1.0}]}
    (classes,) = container.invoke(examples, f"{HALF},tfs-method=classify").json()["results"]
    assert [label for label, _ in classes] == ["low", "high"]
    assert classes[1][1] == pytest.approx(1 / (1 + math.exp(-4.5)), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "method", "part"),
    [
        ({"examples": [{"x": 1.0}]}, "regress", "Expected regression signature method_name to be"),
        ({"signature_name": REGRESS, "instances": [1.0]}, "regress", "key 'examples' is expected"),
        ({"signature_name": REGRESS, "examples": []}, "regress", "value is an empty array"),
        ({"signature_name": REGRESS, "examples": [1.0]}, "regress", "Example must be JSON object but got JSON Number"),
        ({"signature_name": REGRESS, "examples": [{"x": ["a", 1]}]}, "regress", "Unexpected element type in feature"),
        ({"signature_name": REGRESS, "examples": [{"x": "a"}]}, "regress", "Data types don't match"),
        ({"signature_name": "other", "instances": [1.0]}, "predict", 'name: "other" not found in signature def'),
        ({"signature_name": 1, "instances": [1.0]}, "predict", "'signature_name' key must be a string value"),
        ({"instances": [1.0]}, "explain", "Malformed request: POST /v1/models/half_plus:explain"),
    ],
)
def test_a_wrong_request_gets_tensorflow_servings_error(
    container: Container, body: Any, method: str, part: str
) -> None:
    response = container.invoke(body, f"{HALF},tfs-method={method}")
    assert response.status_code == 400
    assert part in response.json()["error"]


def test_strings_lookups_and_bytes_are_computed_where_csv_has_one_column_of_words(container: Container) -> None:
    response = container.invoke(b"cat\ncow", WORDS, CSV)
    assert response.json()["predictions"] == [
        {"number": 0, "raw_bytes": {"b64": base64.b64encode(b"cat").decode()}, "upper": "CAT"},
        {"number": 2, "raw_bytes": {"b64": base64.b64encode(b"cow").decode()}, "upper": "COW"},
    ]
    binary = {"signature_name": "examples", "instances": [{"b64": base64.b64encode(b"no example").decode()}]}
    assert "Could not parse example input" in container.invoke(binary, HALF).json()["error"]


def test_accept_chooses_the_media_type_and_json_on_one_line(container: Container) -> None:
    lines = container.invoke([1.0], HALF, accept="application/jsonlines")
    assert lines.headers["content-type"] == "application/jsonlines"
    assert lines.text == '{    "predictions": [[4.5]    ]}'
    other = container.invoke([1.0], HALF, accept="text/csv")
    assert other.headers["content-type"] == JSON
    assert other.json() == {"predictions": [[4.5]]}


def test_numbers_that_json_lacks_go_in_and_come_out(container: Container) -> None:
    response = container.invoke(b'{"instances": [NaN, Infinity]}', HALF)
    (first, second) = json.loads(response.text)["predictions"]
    assert math.isnan(first)
    assert second == math.inf


def test_an_error_of_tensorflow_is_the_responses(container: Container) -> None:
    response = container.invoke({"instances": [{"x": [1.0], "y": [1.0]}]}, DENSE)
    assert response.status_code == 400
    assert "Matrix size-incompatible" in response.json()["error"]


def test_an_image_without_its_dimensions_does_not_end_the_server(container: Container) -> None:
    response = container.invoke({"inputs": [1.0, 2.0]}, EDGES)
    assert (response.status_code, "4 dimensions" in response.text) == (400, True)
    assert container.invoke({"inputs": [[[[1.0] * 3] * 8] * 8]}, EDGES).status_code == 200


def test_other_media_types_and_paths_are_refused_as_nginx_does(container: Container) -> None:
    refused = container.invoke(b"x", HALF, "image/png")
    assert (refused.status_code, refused.json()) == (415, {"error": "Unsupported Media Type: image/png"})
    missing = container.send("GET", "/models")
    assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})


SCRIPT = """
import json
import greeting
import requests
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc, regression_pb2
import numpy as np
import tensorflow as tf

def handler(data, context):
    kind = data.readline().strip().decode()
    return globals()[kind](data.read(), context)

def greet(body, context):
    return greeting.words, "text/plain"

def fail(body, context):
    raise ValueError("the body is " + body.decode())

def wrong(body, context):
    return {"a": 1}, "application/json"

def describe(body, context):
    fields = context._asdict()
    fields["channel"] = fields["channel"] is not None
    return json.dumps(fields), context.accept_header

def rest(body, context):
    base = context.rest_uri.partition("/v1/")[0]
    return json.dumps([requests.get(base + path).json() for path in json.loads(body)]), "application/json"

def predict(body, context):
    return requests.post(context.rest_uri, data=body).content, "application/json"

def spec(message, version=None, signature=""):
    message.model_spec.name, message.model_spec.signature_name = "half_plus", signature
    if version:
        message.model_spec.version.value = version
    return message

def grpc(body, context):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(context.channel)
    request = spec(predict_pb2.PredictRequest(output_filter=["y"]), 123)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1.0], np.float32)))
    predicted = stub.Predict(request)
    regress = spec(regression_pb2.RegressionRequest(), signature="tensorflow/serving/regress")
    example = regress.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(1.0)
    fields = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata = stub.GetModelMetadata(spec(fields))
    status = model_service_pb2_grpc.ModelServiceStub(context.channel).GetModelStatus(
        spec(get_model_status_pb2.GetModelStatusRequest()))
    return json.dumps([
        tf.make_ndarray(predicted.outputs["y"]).tolist(), predicted.model_spec.version.value,
        [each.value for each in stub.Regress(regress).result.regressions],
        metadata.model_spec.version.value, [each.version for each in status.model_version_status],
    ]), "application/json"
"""


@pytest.fixture(scope="module")
def coded(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """An archive with code and requirements, and batching."""
    folder = tmp_path_factory.mktemp("coded")
    shutil.copytree(program.models / "half_plus", folder / "model/half_plus")
    code = folder / "model/code"
    code.mkdir()
    (code / "inference.py").write_text(SCRIPT)
    packed = wheel(folder, "greeting", 'words = "hello"')
    (code / "requirements.txt").write_text(f"# a comment\nnumpy>=1\ngreeting @ file://{packed}\n")
    installer = launch.installer(folder / "cache", isolated=False)
    batching = {"SAGEMAKER_TFS_ENABLE_BATCHING": "true", "SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES": "100"}
    with running(program, folder, **installer, **batching) as served:
        yield served


def test_packages_of_requirements_are_installed_unless_they_are_there(coded: Container) -> None:
    response = coded.invoke(b"greet\n", "")
    assert (response.text, response.headers["content-type"]) == ("hello", "text/plain")
    assert "installing packages from code/requirements.txt: greeting @" in coded.log.read_text()


def test_the_error_of_a_handler_is_the_text_of_its_exception(coded: Container) -> None:
    response = coded.invoke(b"fail\nbad", "")
    assert (response.status_code, response.json()) == (500, {"error": "the body is bad"})
    response = coded.invoke(b"wrong\n", "")
    assert response.status_code == 500
    assert "must be str or bytes" in response.json()["error"]


def test_a_handler_gets_the_containers_context(coded: Container) -> None:
    attributes = "tfs-model-version=123,tfs-method=regress,a=b"
    response = coded.invoke(b"describe\n", attributes, "text/x", accept="text/y; q=1")
    assert response.headers["content-type"] == "text/y; q=1"
    context = response.json()
    assert context.pop("rest_uri").endswith("/v1/models/half_plus/versions/123:regress")
    assert context.pop("grpc_port").isdecimal()
    assert context == {
        "model_name": None,
        "model_version": "123",
        "method": "regress",
        "channel": True,
        "custom_attributes": attributes,
        "request_content_type": "text/x",
        "accept_header": "text/y; q=1",
        "content_length": len(b"describe\n"),
    }


def test_a_handler_reaches_status_and_metadata_of_models(coded: Container) -> None:
    paths = ["/v1/models/half_plus", "/v1/models/half_plus/versions/123/metadata", "/v1/models/other", "/v1/models"]
    status, metadata, missing, unnamed = coded.invoke(b"rest\n" + json.dumps(paths).encode(), "").json()
    ok = {"error_code": "OK", "error_message": ""}
    assert status == {
        "model_version_status": [{"version": version, "state": "AVAILABLE", "status": ok} for version in ("124", "123")]
    }
    assert metadata["model_spec"] == {"name": "half_plus", "signature_name": "", "version": "123"}
    signature = metadata["metadata"]["signature_def"]["signature_def"][REGRESS]
    assert signature["method_name"] == REGRESS
    assert signature["inputs"]["inputs"]["dtype"] == "DT_STRING"
    assert missing == {"error": "Could not find any versions of model other"}
    assert unnamed == {"error": "Missing model name in request."}


def test_a_handler_reaches_models_over_grpc(coded: Container) -> None:
    assert coded.invoke(b"grpc\n", "").json() == [[3.5], 123, [4.5], 124, [124, 123]]


def test_requests_in_one_batch_get_their_own_predictions(coded: Container) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        bodies = [b'predict\n{"instances": [%d.0]}' % number for number in range(16)]
        responses = list(executor.map(lambda body: coded.invoke(body, "").json(), bodies))
    assert responses == [{"predictions": [number / 2 + 4]} for number in range(16)]
    large = coded.invoke(b'predict\n{"instances": [1, 2, 3, 4, 5, 6, 7, 8, 9]}', "").json()
    assert large == {"error": "Task size 9 is larger than maximum input batch size 8"}


OWN_SCRIPT = """
import suffix
def input_handler(data, context):
    return '{"instances": [' + data.read().decode() + ']}'
def output_handler(response, context):
    return response.content + suffix.text + context.model_name.encode(), "text/plain"
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """Models in the form in which SageMaker extracts them: a version on top, and code in one of them."""
    folder = tmp_path_factory.mktemp("archives")
    for name in ("plain", "coded", "broken_code"):
        shutil.copytree(program.models / "half_plus", folder / name)
    (folder / "coded/code/lib").mkdir(parents=True)
    (folder / "coded/code/inference.py").write_text(OWN_SCRIPT)
    (folder / "coded/code/lib/suffix.py").write_text('text = b" from "')
    (folder / "broken_code/code").mkdir()
    (folder / "broken_code/code/inference.py").write_text("import absent_package")
    (folder / "broken/1").mkdir(parents=True)
    (folder / "broken/1/saved_model.pb").write_bytes(b"no graph")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def multi_model(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(program, tmp_path_factory.mktemp("multi"), SAGEMAKER_MULTI_MODEL="true") as served:
        yield served


def load(container: Container, name: str, folder: Path) -> tuple[int, Any]:
    response = container.send("POST", "/models", {"model_name": name, "url": str(folder)})
    return response.status_code, response.json()


def test_a_model_is_loaded_listed_invoked_and_unloaded(multi_model: Container, models: Path) -> None:
    invoke = "/models/m/invoke"
    not_loaded = multi_model.send("POST", invoke, {"instances": [1.0]})
    assert (not_loaded.status_code, not_loaded.json()) == (404, {"error": "Model m is not loaded yet."})
    assert multi_model.send("GET", "/models").json() == {}
    assert load(multi_model, "m", models / "plain") == (200, {"success": "Successfully loaded model m."})
    assert load(multi_model, "m", models / "plain") == (409, {"error": "Model m is already loaded."})
    assert list(multi_model.send("GET", "/models").json()) == ["m"]
    described = multi_model.send("GET", "/models/m").json()["model"]["model_version_status"]
    assert [each["version"] for each in described] == ["124", "123"]
    response = multi_model.send("POST", invoke, {"instances": [1.0]}, accept=JSON)
    assert (response.json(), response.headers["content-type"]) == ({"predictions": [4.5]}, JSON)
    assert multi_model.send("DELETE", "/models/m").json() == {"success": "Successfully unloaded model m."}
    assert multi_model.send("DELETE", "/models/m").status_code == 404
    assert multi_model.send("POST", invoke, {"instances": [1.0]}).status_code == 404


def test_a_model_runs_its_own_script_and_others_none(multi_model: Container, models: Path) -> None:
    assert load(multi_model, "own", models / "coded")[0] == 200
    assert multi_model.send("POST", "/models/own/invoke", b"1.0").text.endswith("} from own")
    assert load(multi_model, "none", models / "plain")[0] == 200
    # Without a script, a request goes to TensorFlow Serving as it is, and even an error comes back with status 200.
    response = multi_model.send("POST", "/models/none/invoke", b"1.0")
    assert (response.status_code, list(response.json())) == (200, ["error"])


@pytest.mark.parametrize(
    ("name", "status", "part"),
    [
        ("absent", 404, "Could not find valid base path"),
        ("empty", 404, "Could not find valid base path"),
        ("broken", 408, "version 1 of model bad"),
        ("broken_code", 500, "No module named 'absent_package'"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused_and_leaves_nothing(
    multi_model: Container, models: Path, name: str, status: int, part: str
) -> None:
    answered, response = load(multi_model, "bad", models / name)
    assert answered == status
    assert part in response["error"]
    assert "bad" not in multi_model.send("GET", "/models").json()


def test_a_request_without_a_model_is_refused(multi_model: Container) -> None:
    response = multi_model.send("POST", "/invocations", {"instances": [1.0]})
    assert (response.status_code, "does not contain model name" in response.text) == (400, True)


def test_models_are_loaded_anew_after_the_model_server_died(multi_model: Container, models: Path) -> None:
    load(multi_model, "m", models / "plain")
    for child in psutil.Process(multi_model.process.pid).children():
        if any(argument.endswith("model_server") for argument in child.cmdline()):
            child.kill()
            child.wait(30)
    multi_model.wait_until_ready()
    assert multi_model.send("POST", "/models/m/invoke", {"instances": [1.0]}).status_code == 404
    assert load(multi_model, "m", models / "plain")[0] == 200
    assert multi_model.send("POST", "/models/m/invoke", {"instances": [1.0]}).json() == {"predictions": [4.5]}


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"m/1/saved_model.pb": "no graph"}, "cannot load version 1 of model m: Cannot parse file"),
        ({"code/inference.py": "x = 1", "half_plus": ""}, "Handlers are not implemented correctly in user script."),
        ({"code/requirements.txt": "./absent.whl", "half_plus": ""}, "failed to install required packages"),
        (
            {"m/1/saved_model.pb": "no graph", "other": "x"},
            "NAME is 'other', and the archive has no such model",
        ),
    ],
    ids=["model", "script", "requirements", "default model"],
)
def test_what_cannot_be_served_ends_the_start_with_the_reason(
    program: Program, tmp_path: Path, files: dict[str, str], part: str
) -> None:
    for name, text in files.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_text(text)
        else:
            shutil.copytree(program.models / name, path)
    variables = launch.installer(tmp_path / "cache", isolated=False)
    if "other" in files:
        variables["SAGEMAKER_TFS_DEFAULT_MODEL_NAME"] = "other"
    failed = start(program, tmp_path, variables)
    assert failed.process.wait(120) == 1
    log = failed.log.read_text()
    assert part in log
    assert "cannot serve: " in log.splitlines()[-1]
