"""Recipes say what they mean, images and masks are checked file by file, and scores are what textbooks say."""

import io
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import botocore.exceptions
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from model_build.errors import BuildError
from model_build.saved_model.data import Dataset, find, split
from model_build.saved_model.gate import check_gate, check_reference
from model_build.saved_model.generate import generate
from model_build.saved_model.recipe import MIN_IMAGES, FolderSource, Gate, GeneratedSource, S3Source, SavedModelRecipe
from model_build.saved_model.scores import Scores, ious, score
from model_build.saved_model.training import batch, batch_count

SIDE = 224
Pixels = NDArray[np.uint8]


def encoded(pixels: Any, kind: str = "PNG", mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image if mode is None else image.convert(mode)).save(stream, kind)
    return stream.getvalue()


def grey(value: int) -> Pixels:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def half() -> Pixels:
    """A mask whose upper half is foreground."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[: SIDE // 2] = 255
    return mask


VALID = {f"images/cell-{number:02d}.png": encoded(grey(number)) for number in range(MIN_IMAGES)}
VALID |= dict.fromkeys((f"masks/cell-{number:02d}.png" for number in range(MIN_IMAGES)), encoded(half()))


def files(changes: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
    """A valid data set by path; changes replace a file or, with None, remove it."""
    return {path: content for path, content in {**VALID, **(changes or {})}.items() if content is not None}


def write(folder: Path, content: dict[str, bytes]) -> FolderSource:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return FolderSource(path=str(folder))


@dataclass
class FakeS3:
    """The calls of boto3's S3 client that reading a data set makes, over a dictionary."""

    objects: dict[str, bytes] = field(default_factory=dict)
    refuses: str | None = None
    reads: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get_paginator(self, name: str) -> "FakeS3":
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803 - boto3's names
        if self.refuses == "list":
            raise _denied("ListObjectsV2")
        keys = sorted(path for path in self.objects if path.startswith(f"{Bucket}/{Prefix}"))
        for begin in range(0, len(keys), 7):
            yield {
                "Contents": [
                    {"Key": key.removeprefix(f"{Bucket}/"), "ETag": str(hash(self.objects[key])), "Size": 1}
                    for key in keys[begin : begin + 7]
                ]
            }
        yield {}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, io.BytesIO]:  # noqa: N803 - boto3's names
        if self.refuses == "get":
            raise _denied("GetObject")
        with self.lock:
            self.reads.append(Key)
        return {"Body": io.BytesIO(self.objects[f"{Bucket}/{Key}"])}


def _denied(operation: str) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    fake = FakeS3({f"bucket/cells/{path}": content for path, content in files().items()})
    fake.objects["bucket/cells/masks/"] = b""
    monkeypatch.setattr("boto3.client", lambda _name: fake)
    return fake


def test_a_recipe_has_working_defaults_and_refuses_what_makes_no_sense() -> None:
    recipe = SavedModelRecipe()
    assert recipe.source == GeneratedSource(images=400, seed=0)
    assert (recipe.depth, recipe.base_width, recipe.gate.min_iou_ratio) == (4, 32, 0.99)
    assert recipe.precisions == ("fp32", "int8", "bf16")
    for wrong, message in (
        ({"source": {"kind": "generated", "images": 19}}, "greater than or equal to 20"),
        ({"source": {"kind": "s3", "url": "https://bucket/key"}}, "source.s3.url"),
        ({"source": {"kind": "ftp"}}, "source"),
        ({"preset": "tiny"}, "preset"),
        ({"depth": 6}, "depth"),
        ({"precisions": ["int8", "int8"]}, "list each precision once"),
        ({"precisions": ["int4"]}, "precisions"),
        ({"test_share": 0}, "test_share"),
        ({"gate": {"min_iou_ratio": 1.1}}, "min_iou_ratio"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(ValidationError, match=message):
            SavedModelRecipe.model_validate(wrong)


def test_the_demo_preset_changes_defaults_and_nothing_that_is_set() -> None:
    demo = SavedModelRecipe.model_validate({"preset": "demo"})
    assert demo.base_width < SavedModelRecipe().base_width
    assert isinstance(demo.source, GeneratedSource)
    assert demo.source.images < 400
    chosen = SavedModelRecipe.model_validate(
        {"preset": "demo", "base_width": 8, "source": {"kind": "folder", "path": "x"}}
    )
    assert (chosen.base_width, chosen.epochs) == (8, demo.epochs)
    assert chosen.source == FolderSource(path="x")


@pytest.mark.parametrize("preset", ["full", "demo"])
def test_a_recipe_survives_json(preset: str) -> None:
    recipe = SavedModelRecipe.model_validate({"preset": preset, "precisions": ["int8"], "seed": 7})
    assert SavedModelRecipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_recipe_names_what_the_build_reads_from_s3() -> None:
    assert SavedModelRecipe().s3_urls == ()
    assert SavedModelRecipe(source=S3Source(url="s3://bucket/cells")).s3_urls == ("s3://bucket/cells",)


def test_reading_a_recipe_imports_nothing_but_pydantic() -> None:
    heavy = "{'numpy', 'PIL', 'openvino', 'tensorflow', 'msgspec', 'boto3'}"
    code = f"import sys, model_build.saved_model.recipe; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_a_generated_picture_depends_on_its_seed_and_number_alone() -> None:
    source = GeneratedSource()
    first, again = generate(source, 5), generate(source, 5)
    assert (first.image == again.image).all()
    assert (first.mask == again.mask).all()
    assert (generate(source, 6).image != first.image).any()
    assert (generate(GeneratedSource(seed=1), 5).image != first.image).any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(0, 10_000))
def test_a_generated_picture_has_cells_and_background(seed: int, number: int) -> None:
    picture = generate(GeneratedSource(seed=seed), number)
    assert (picture.image.shape, picture.image.dtype.name) == ((SIDE, SIDE, 3), "uint8")
    assert (picture.mask.shape, picture.mask.dtype.name) == ((SIDE, SIDE), "bool")
    assert 0 < picture.mask.mean() < 0.7


def test_generated_cells_differ_from_what_is_around_them() -> None:
    contrasts = []
    for number in range(10):
        picture = generate(GeneratedSource(), number)
        contrasts.append(abs(picture.image[picture.mask].mean() - picture.image[~picture.mask].mean()))
    assert np.median(contrasts) > 15


def test_a_generated_source_is_read_whole_under_names_that_tell_them_apart() -> None:
    source = find(GeneratedSource(images=20, seed=3))
    data = source.load()
    assert source.name == "20 generated pictures of cells, seed 3"
    assert len(set(data.names.tolist())) == len(data.images) == 20
    assert source.fingerprint != find(GeneratedSource(images=20, seed=4)).fingerprint


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    content = files() | {"images/cell-00.PNG": encoded(grey(200)), "notes.txt": b"", "images/.DS_Store": b""}
    del content["images/cell-00.png"]
    jpeg = {"images/a/cell.jpg": encoded(grey(100), "JPEG"), "masks/a/cell.png": encoded(half() // 255)}
    data = find(write(tmp_path, content | jpeg)).load()
    assert data.names.tolist() == ["a/cell", *(f"cell-{number:02d}" for number in range(MIN_IMAGES))]
    assert data.images[:3, 0, 0, 0].tolist() == [100, 200, 1]
    assert data.masks.dtype == np.bool_
    assert (data.masks == (half() > 0)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_masks_may_be_black_and_white_grey_or_of_a_palette(tmp_path: Path, mode: str) -> None:
    mask = encoded(half(), mode=mode) if mode != "P" else _palette_mask()
    data = find(write(tmp_path, files({"masks/cell-07.png": mask}))).load()
    assert (data.masks[7] == (half() > 0)).all()


def _palette_mask() -> bytes:
    image = Image.fromarray(half() // 255)
    image = image.convert("L")
    image.putpalette([0, 0, 0, 200, 30, 30])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_a_source_changes_its_fingerprint_with_its_content(tmp_path: Path) -> None:
    source = write(tmp_path, files())
    before = find(source).fingerprint
    assert find(source).fingerprint == before
    (tmp_path / "images/cell-03.png").write_bytes(encoded(grey(99)))
    assert find(source).fingerprint != before


SMALL = np.zeros((100, 150, 3), np.uint8)
THREE = half() // 255 + np.eye(SIDE, dtype=np.uint8) * 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no images; store images/"),
        (
            files({"images/cell-19.png": None, "masks/cell-19.png": None}),
            "has 19 images; a build needs at least 20 and at most 20000",
        ),
        (files({"masks/cell-03.png": None}), r"images/cell-03\.png is without a mask; add masks/cell-03\.png"),
        (files({"images/cell-03.png": None}), r"masks/cell-03\.png is without an image; add images/cell-03\.png"),
        (
            {path: data for path, data in files().items() if path.startswith("images")},
            r"cell-00\.png, images/cell-01\.png, images/cell-02\.png and 17 more are without a mask",
        ),
        (
            files({"images/cell-03.jpg": b""}),
            r"images/cell-03\.jpg and images/cell-03\.png have the same name; keep one",
        ),
        (files({"images/notes.txt": b""}), r"images/notes\.txt does not match \*\.png, \*\.jpg, \*\.jpeg; convert"),
        (files({"masks/cell-03.jpg": b""}), r"masks/cell-03\.jpg does not match \*\.png"),
        (files({"images/cell-03.png": b"hello"}), r"images/cell-03\.png: the content is not a readable PNG"),
        (files({"images/cell-03.png": b""}), r"images/cell-03\.png: the image has no bytes"),
        (files({"images/cell-03.png": encoded(SMALL)}), "150 x 100 pixels, this model takes only 224 x 224"),
        (files({"masks/cell-03.png": encoded(SMALL[..., 0])}), r"masks/cell-03\.png: the PNG is 150 x 100 pixels"),
        (files({"masks/cell-03.png": encoded(half())[:60]}), r"masks/cell-03\.png: the PNG cannot be decoded"),
        (files({"images/cell-03.png": encoded(grey(1), mode="RGBA")}), "has transparency; send 8-bit RGB"),
        (
            files({"masks/cell-03.png": encoded(grey(255))}),
            "has mode RGB; save masks as 8-bit grayscale with 0 and 255",
        ),
        (files({"masks/cell-03.png": encoded(THREE)}), r"not binary: it has 4 values \(0, 1, 7, 8\); save"),
        ({path: encoded(SMALL[:1]) if "i" in path[:1] else data for path, data in files().items()}, "150 x 1 pixels"),
        (
            {path: data if path[0] == "i" else encoded(np.zeros((SIDE, SIDE))) for path, data in files().items()},
            "every mask is empty; save masks with 255 for foreground and 0 for background",
        ),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_name_the_finding_and_the_fix(
    tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    source = write(tmp_path, content)
    with pytest.raises(BuildError, match=message) as raised:
        find(source).load()
    assert str(tmp_path) in str(raised.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"source\.path: '.*none' is not a folder; set one with images/"):
        find(FolderSource(path=str(tmp_path / "none")))


def test_a_prefix_is_listed_first_and_read_only_when_needed(s3: FakeS3) -> None:
    source = find(S3Source(url="s3://bucket/cells/"))
    assert s3.reads == []
    data = source.load()
    assert len(data.images) == MIN_IMAGES
    assert len(s3.reads) == 2 * MIN_IMAGES
    s3.objects["bucket/cells/images/cell-01.png"] = encoded(grey(77))
    assert find(S3Source(url="s3://bucket/cells")).fingerprint != source.fingerprint


def test_a_prefix_that_cannot_be_listed_read_or_is_empty_is_named(s3: FakeS3) -> None:
    with pytest.raises(BuildError, match="s3://bucket/none has no images; store"):
        find(S3Source(url="s3://bucket/none")).load()
    source = find(S3Source(url="s3://bucket/cells"))
    s3.refuses = "get"
    with pytest.raises(BuildError, match=r"s3://bucket/cells/images/cell-\d+\.png cannot be read: .*s3:GetObject"):
        source.load()
    s3.refuses = "list"
    with pytest.raises(BuildError, match=r"source\.url: 's3://bucket/cells' cannot be listed: .*s3:ListBucket"):
        find(S3Source(url="s3://bucket/cells"))


def numbered(count: int) -> Dataset:
    """Images that are their own number, with foreground where rows are above 8 and columns above 5."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, SIDE, SIDE, 3))
    masks = np.zeros((count, SIDE, SIDE), np.bool_)
    masks[:, :8, :5] = True
    return Dataset(images, masks, np.array([str(number) for number in range(count)]))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(MIN_IMAGES, 60), test=st.floats(0.05, 0.5), validation=st.floats(0.05, 0.3))
def test_splits_share_no_image_and_none_is_empty(count: int, test: float, validation: float) -> None:
    recipe = SavedModelRecipe(test_share=test, validation_share=validation)
    parts = split(numbered(count), recipe)
    names = [part.names.tolist() for part in (parts.train, parts.validation, parts.test)]
    assert all(names)
    assert sorted(chain(*names)) == sorted(str(number) for number in range(count))
    assert (parts.test.images[:, 0, 0, 0] == parts.test.names.astype(int)).all()


def test_a_split_follows_the_seed() -> None:
    first, again = split(numbered(40), SavedModelRecipe()), split(numbered(40), SavedModelRecipe())
    assert first.test.names.tolist() == again.test.names.tolist()
    assert split(numbered(40), SavedModelRecipe(seed=1)).test.names.tolist() != first.test.names.tolist()


def test_batches_are_floats_of_every_image_once_in_an_order_that_epochs_change() -> None:
    data = numbered(21)
    orders = []
    for epoch in range(2):
        parts = [batch(data, 8, number, (42, epoch)) for number in range(batch_count(21, 8))]
        images = np.concatenate([images for images, _ in parts])
        assert images.dtype == np.float32
        orders.append((images[:, 0, 0, 0] * 255).round().astype(int).tolist())
        assert sorted(orders[-1]) == list(range(21))
        again = np.concatenate([batch(data, 8, number, (42, epoch))[0] for number in range(3)])
        assert (images == again).all()
    assert orders[0] != orders[1]


def test_batches_mirror_images_and_masks_together_and_validation_not_at_all() -> None:
    pictures = [generate(GeneratedSource(), number) for number in range(8)]
    data = Dataset(
        np.stack([p.image for p in pictures]), np.stack([p.mask for p in pictures]), np.arange(8).astype(np.str_)
    )
    seen = set()
    for epoch in range(12):
        images, masks = batch(data, 8, 0, (42, epoch))
        rows = np.random.default_rng((42, epoch)).permutation(8)
        for axes in ((), (1,), (2,), (1, 2)):
            if (np.flip(data.masks[rows], axes) == masks[..., 0]).all():
                seen.add(axes)
                assert np.abs(images - np.flip(data.images[rows], axes) / 255).max() < 1e-6
    assert seen == {(), (1,), (2,), (1, 2)}
    images, masks = batch(data, 8, 0, None)
    assert (masks[..., 0] == data.masks).all()


def predicted(*masks: Any) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    truth, found = masks
    return np.array(truth, np.bool_), np.array(found, np.float32)[..., np.newaxis]


def test_iou_and_dice_are_means_over_images_at_the_serving_threshold() -> None:
    truth, found = predicted([[[1, 1, 0, 0]], [[1, 1, 1, 1]]], [[[0.9, 0.4, 0.5, 0.1]], [[0.5, 0.5, 0.5, 0.5]]])
    assert ious(truth, found).tolist() == [pytest.approx(1 / 3), 1.0]
    scores = score(truth, found)
    assert scores.iou == pytest.approx(2 / 3)
    assert scores.dice == pytest.approx(0.75)
    assert scores.images == 2


def test_an_image_without_foreground_is_right_only_when_left_empty() -> None:
    truth, found = predicted([[[0, 0]], [[0, 0]]], [[[0.1, 0.1]], [[0.9, 0.1]]])
    assert ious(truth, found).tolist() == [1.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_dice_follows_from_iou_image_by_image(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.random((1, 12, 12)) < share, rng.random((1, 12, 12, 1), dtype=np.float32)
    scores = score(truth, found)
    assert scores.dice == pytest.approx(2 * scores.iou / (1 + scores.iou))


def test_the_gate_passes_at_its_limit_and_fails_below_with_before_after_and_limit() -> None:
    fp32 = Scores(0.8, 0.89, 80)
    assert check_gate("int8", "d", fp32, Scores(0.792, 0.88, 80), Gate()).gate == "99%"
    with pytest.raises(BuildError, match=r"IoU is 0\.8000 in FP32 and 0\.7910 in int8, the limit is 0\.7920 \(99\.00%"):
        check_gate("int8", "d", fp32, Scores(0.791, 0.88, 80), Gate())


@pytest.mark.parametrize(
    ("iou", "minimum", "label"), [(0.81, 0.99, "99.9%"), (0.795, 0.99, "99%"), (0.77, 0.95, "passed")]
)
def test_the_gate_labels_the_strictest_limit_met(iou: float, minimum: float, label: str) -> None:
    accuracy = check_gate("bf16", "d", Scores(0.8, 0.89, 80), Scores(iou, 0.9, 80), Gate(min_iou_ratio=minimum))
    assert accuracy.gate == label
    assert accuracy.iou_ratio == pytest.approx(iou / 0.8)


def test_a_network_that_has_not_learned_fails_before_any_ratio_to_it() -> None:
    assert check_reference("d", Scores(0.5, 0.6, 80), Gate()).gate == "reference"
    with pytest.raises(BuildError, match=r"IoU of the trained network is 0\.4900, the limit is 0\.5000.*Train longer"):
        check_reference("d", Scores(0.49, 0.6, 80), Gate())
    nothing = Scores(0.0, 0.0, 4)
    assert check_gate("int8", "d", nothing, nothing, Gate(min_iou=0)).iou_ratio == 1.0
