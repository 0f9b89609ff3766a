"""The images: what each is built from, a tiny model for it to serve, and the requests to send."""

import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from containers.saved_model.signature import CHANNELS, IMAGE_SIDE
from containers.tabular.features import FEATURES
from local_aws.account import ROOT
from tools import tiny_models
from tools.fuzz.wire import Request
from tools.tiny_models import WORDS

LOAD_TEST = "load_test"
_MODEL = "CA"


@dataclass(frozen=True, slots=True)
class Image:
    """One image.

    sources: files and folders of its build context. context: the context's folder, below the project. save: writes the
    model that is mounted at `mounted`. load: request to send before any other. answered: returns whether the response
    to `good` is correct. refused: a request with a client error.
    """

    name: str
    sources: tuple[str, ...]
    context: str = "containers"
    build_args: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    save: Callable[[Path], None] = lambda _: None
    mounted: str = "/opt/ml/model"
    load: Request | None = None
    good: Request = field(default_factory=lambda: Request("GET", "/ping"))
    answered: Callable[[bytes], bool] = bool
    refused: Request = field(default_factory=lambda: Request("GET", "/nowhere"))

    def stage(self, folder: Path) -> Path:
        """Copy the build context as the CDK's asset holds it, and return the Dockerfile's path."""
        for source in self.sources:
            target = folder / source
            target.parent.mkdir(parents=True, exist_ok=True)
            origin = ROOT / self.context / source
            if origin.is_dir():
                shutil.copytree(origin, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "tuning"))
            else:
                shutil.copy(origin, target)
        return folder / ("" if self.context == "containers" else "containers") / self.name / "Dockerfile"


def _post(path: str, kind: str, body: bytes) -> Request:
    return Request("POST", path, (("content-type", kind.encode()), ("accept", kind.encode())), body)


def _serving(name: str) -> tuple[str, ...]:
    return ("__init__.py", "serving", name)


def _question(text: bytes) -> bool:
    return isinstance(json.loads(text)["answer"], str)


def _mask(body: bytes) -> bool:
    mask = np.load(io.BytesIO(body))
    return bool(mask.size == IMAGE_SIDE * IMAGE_SIDE and np.allclose(mask, 0.5, atol=0.01))


def _image() -> bytes:
    content = io.BytesIO()
    np.save(content, np.full((1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS), 0.5, np.float32))
    return content.getvalue()


def _save_churn(folder: Path) -> None:
    (model,) = tiny_models.churn_models((_MODEL,)).values()
    tiny_models.save_churn(folder / _MODEL / "model", model)


_ASKED = _post(
    "/invocations", "application/json", json.dumps({"question": WORDS[1], "context": " ".join(WORDS[:20])}).encode()
)
_WITHOUT_CONTEXT = _post("/invocations", "application/json", json.dumps({"question": "w1"}).encode())

IMAGES = {
    image.name: image
    for image in (
        Image(
            "encoder",
            _serving("encoder"),
            build_args={"ENGINE": "vnni"},
            save=tiny_models.save_encoder,
            good=_ASKED,
            answered=_question,
            refused=_WITHOUT_CONTEXT,
        ),
        Image(
            "saved_model",
            _serving("saved_model"),
            save=tiny_models.save_unet,
            good=_post("/invocations", "application/x-npy", _image()),
            answered=_mask,
            refused=_post("/invocations", "application/x-npy", b"no array"),
        ),
        Image(
            "tabular",
            _serving("tabular"),
            environment={"SAGEMAKER_MULTI_MODEL": "true"},
            save=_save_churn,
            mounted="/opt/ml/models",
            load=_post(
                "/models",
                "application/json",
                json.dumps({"model_name": _MODEL, "url": f"/opt/ml/models/{_MODEL}/model"}).encode(),
            ),
            good=_post(f"/models/{_MODEL}/invoke", "text/csv", ",".join("1" for _ in FEATURES).encode()),
            answered=lambda body: 0 < float(body) < 1,
            refused=_post(f"/models/{_MODEL}/invoke", "text/csv", b"no,number"),
        ),
        Image(
            "neuron_encoder",
            _serving("neuron_encoder"),
            build_args={"DEVICE": "cpu"},
            environment={
                "NEURON_ENCODER_DEVICE": "cpu",
                "NEURON_ENCODER_VIRTUAL_CORES": "1",
                "NEURON_ENCODER_MODELS": "1",
            },
            save=tiny_models.save_neuron_encoder,
            good=_ASKED,
            answered=_question,
            refused=_WITHOUT_CONTEXT,
        ),
        Image(LOAD_TEST, ("containers/load_test", "load_tests"), context="."),
    )
}
"""Images by name. TensorFlow Serving's image is AWS's own, and not built here."""
