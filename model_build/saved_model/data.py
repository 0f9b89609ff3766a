"""Generate or read a recipe's images and masks, check them, and split them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import boto3
import botocore.exceptions
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from containers.saved_model.images import JPEG, PNG, decode_image, open_image
from containers.saved_model.signature import CHANNELS, IMAGE_SIDE
from containers.serving.errors import ServingError
from containers.serving.manifest import sha256
from model_build.errors import BuildError
from model_build.saved_model.generate import generate
from model_build.saved_model.recipe import (
    MAX_IMAGES,
    MIN_IMAGES,
    FolderSource,
    GeneratedSource,
    ImageSource,
    S3Source,
    SavedModelRecipe,
)

IMAGES_FOLDER, MASKS_FOLDER = "images", "masks"
_IMAGE_TYPES = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG}
_DATA_FILE = "data.npz"
_READS_AT_ONCE = 8
"""Fewer than the ten connections in a boto3 client's pool."""
_LAYOUT = f"{IMAGES_FOLDER}/*.png or .jpg and {MASKS_FOLDER}/*.png with the same names"


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images with their masks and names.

    images: uint8 of shape (images, 224, 224, 3).
    masks: bool of shape (images, 224, 224).
    names: strings of shape (images,).
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    names: NDArray[np.str_]

    def take(self, rows: NDArray[np.intp]) -> "Dataset":
        """Return the images of these rows, in this order."""
        return Dataset(self.images[rows], self.masks[rows], self.names[rows])

    def save(self, folder: Path) -> None:
        """Write the data set into a folder."""
        np.savez(folder / _DATA_FILE, images=self.images, masks=self.masks, names=self.names)

    @classmethod
    def load(cls, folder: Path) -> "Dataset":
        """Read a data set written by `save`."""
        with np.load(folder / _DATA_FILE, allow_pickle=False) as arrays:
            return cls(arrays["images"], arrays["masks"], arrays["names"])


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Three disjoint parts of a data set."""

    train: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True, slots=True)
class Source:
    """A source of images.

    name: description of the source.
    fingerprint: hash that changes with the content.
    load: reads or generates the images.
    """

    name: str
    fingerprint: str
    load: Callable[[], Dataset]


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a source.

    tags: by path below the source, a tag that changes with the file's content.
    read: returns a file's bytes.
    """

    name: str
    tags: Mapping[str, str]
    read: Callable[[str], bytes]


def find(source: ImageSource) -> Source:
    """Return a source without decoding its images; raises BuildError for a source that cannot be listed.

    The result's `load` raises BuildError for:

    - an image without a mask, or a mask without an image;
    - a file that is not an image, has another size, or is not a black-and-white mask;
    - a set that is empty, too small, too large, or has no foreground.
    """
    match source:
        case GeneratedSource():
            return Source(
                f"{source.images} generated pictures of cells, seed {source.seed}",
                hashlib.sha256(source.model_dump_json().encode()).hexdigest(),
                lambda: _generated(source),
            )
        case FolderSource():
            files = _in_folder(Path(source.path))
        case S3Source():
            files = _in_s3(source.url)
    tags = json.dumps(sorted(files.tags.items()))
    return Source(files.name, hashlib.sha256(tags.encode()).hexdigest(), lambda: _read(files))


def split(data: Dataset, recipe: SavedModelRecipe) -> Splits:
    """Shuffle with the recipe's seed and split by its shares; every part has at least one image."""
    rows = np.random.default_rng(recipe.seed).permutation(len(data.images))
    tests = max(1, round(recipe.test_share * len(rows)))
    validations = max(1, round(recipe.validation_share * len(rows)))
    return Splits(
        train=data.take(rows[tests + validations :]),
        validation=data.take(rows[tests : tests + validations]),
        test=data.take(rows[:tests]),
    )


def _generated(source: GeneratedSource) -> Dataset:
    pictures = [generate(source, number) for number in tqdm(range(source.images), desc="generate", unit="image")]
    return Dataset(
        np.stack([picture.image for picture in pictures]),
        np.stack([picture.mask for picture in pictures]),
        np.array([f"generated-{number:05d}" for number in range(source.images)]),
    )


def _in_folder(folder: Path) -> _Files:
    if not folder.is_dir():
        raise BuildError(f"source.path: {str(folder)!r} is not a folder; set one with {_LAYOUT}")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    tags = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    return _Files(str(folder), tags, lambda name: (folder / name).read_bytes())


def _in_s3(url: str) -> _Files:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    prefix = key.rstrip("/") + "/"
    s3 = boto3.client("s3")
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise BuildError(
            f"source.url: {url!r} cannot be listed: {error}; check that the bucket exists and that the build's role "
            "has s3:ListBucket on it, or use a source of kind 'generated'"
        ) from error

    def read(name: str) -> bytes:
        try:
            return s3.get_object(Bucket=bucket, Key=prefix + name)["Body"].read()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise BuildError(
                f"source.url: s3://{bucket}/{prefix}{name} cannot be read: {error}; "
                "check that the build's role has s3:GetObject on it"
            ) from error

    return _Files(
        url, {entry["Key"].removeprefix(prefix): f"{entry['ETag']} {entry['Size']}" for entry in entries}, read
    )


def _read(files: _Files) -> Dataset:
    pairs = _pairs(files)

    def pair(name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        image, mask = pairs[name]
        return _image(files, image), _mask(files, mask)

    count = len(pairs)
    data = Dataset(
        np.empty((count, IMAGE_SIDE, IMAGE_SIDE, CHANNELS), np.uint8),
        np.empty((count, IMAGE_SIDE, IMAGE_SIDE), np.bool_),
        np.array(sorted(pairs)),
    )
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        decoded = pool.map(pair, sorted(pairs))
        for row, (image, mask) in enumerate(tqdm(decoded, total=count, desc="read", unit="image")):
            data.images[row], data.masks[row] = image, mask
    if not data.masks.any():
        raise BuildError(f"{files.name}: every mask is empty; save masks with 255 for foreground and 0 for background")
    return data


def _pairs(files: _Files) -> dict[str, tuple[str, str]]:
    images = _by_name(files, IMAGES_FOLDER, _IMAGE_TYPES)
    masks = _by_name(files, MASKS_FOLDER, {".png": PNG})
    if not images:
        raise BuildError(f"{files.name} has no images; store {_LAYOUT} there")
    if alone := sorted(set(images) - set(masks)):
        raise BuildError(
            f"{files.name}: {_some(images[name] for name in alone)} without a mask; add {MASKS_FOLDER}/{alone[0]}.png"
        )
    if alone := sorted(set(masks) - set(images)):
        raise BuildError(
            f"{files.name}: {_some(masks[name] for name in alone)} without an image; "
            f"add {IMAGES_FOLDER}/{alone[0]}.png or remove the mask"
        )
    if not MIN_IMAGES <= len(images) <= MAX_IMAGES:
        raise BuildError(
            f"{files.name} has {len(images)} images; a build needs at least {MIN_IMAGES} and at most {MAX_IMAGES}"
        )
    return {name: (images[name], masks[name]) for name in images}


def _by_name(files: _Files, folder: str, types: Mapping[str, str]) -> dict[str, str]:
    """Return the paths in a folder by name, without folder and suffix; hidden files are skipped."""
    paths: dict[str, str] = {}
    for path in sorted(files.tags):
        inside = PurePosixPath(path)
        if inside.parts[0] != folder or inside.name.startswith("."):
            continue
        if inside.suffix.lower() not in types:
            raise BuildError(f"{files.name}: {path} does not match *{', *'.join(types)}; convert or remove it")
        name = inside.relative_to(folder).with_suffix("").as_posix()
        if name in paths:
            raise BuildError(f"{files.name}: {paths[name]} and {path} have the same name; keep one of them")
        paths[name] = path
    return paths


def _image(files: _Files, path: str) -> NDArray[np.uint8]:
    try:
        return decode_image(files.read(path), _IMAGE_TYPES[PurePosixPath(path).suffix.lower()])
    except ServingError as error:
        raise BuildError(f"{files.name}: {path}: {error}") from error


def _mask(files: _Files, path: str) -> NDArray[np.bool_]:
    try:
        image = open_image(files.read(path), PNG)
    except ServingError as error:
        raise BuildError(f"{files.name}: {path}: {error}") from error
    if image.mode not in ("1", "L", "P"):
        raise BuildError(f"{files.name}: {path} has mode {image.mode}; save masks as 8-bit grayscale with 0 and 255")
    pixels = np.asarray(image)
    values = set(np.unique(pixels).tolist())
    if not (values <= {0, 1} or values <= {0, 255}):
        shown = ", ".join(map(str, sorted(values)[:5]))
        raise BuildError(
            f"{files.name}: {path} is not binary: it has {len(values)} values ({shown}{', ...' * (len(values) > 5)}); "
            "save masks with 0 for background and 255 for foreground"
        )
    mask: NDArray[np.bool_] = pixels != 0
    return mask


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more are" if len(listed) > 3 else " is" if len(listed) == 1 else " are"
    return ", ".join(listed[:3]) + more
