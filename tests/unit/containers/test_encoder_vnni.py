"""The engine vnni beside the same model in plain floats, alone, in company, and on any number of threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from containers.encoder.engines import load_engine, load_lanes
from containers.encoder.engines.vnni import VnniEngine
from containers.serving.cpu import instruction_sets
from containers.serving.question_answering.windows import EncoderBatch, Window
from model_build.encoder.vnni.weights import quantize_rows
from tools.vnni_models import BASE, TINY, FloatBert, runnable_library

needs_vnni = pytest.mark.skipif(
    "avx512_vnni" not in instruction_sets(), reason="this processor has no AVX-512 VNNI, and emulation takes minutes"
)
_TINY_BERT, _BASE_BERT = FloatBert.random(TINY), FloatBert.random(BASE, spread=0.03)
Engine = Callable[[int], VnniEngine]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    library = runnable_library(tmp_path_factory.mktemp("library"))
    root = tmp_path_factory.mktemp("models")
    return {name: bert.save(root / name, library) for name, bert in (("tiny", _TINY_BERT), ("base", _BASE_BERT))}


@pytest.fixture(scope="module")
def tiny(folders: dict[str, Path]) -> Engine:
    return _sessions(folders["tiny"])


@pytest.fixture(scope="module")
def base(folders: dict[str, Path]) -> Engine:
    return _sessions(folders["base"])


def _sessions(folder: Path) -> Engine:
    made: dict[int, VnniEngine] = {}

    def engine(threads: int) -> VnniEngine:
        if threads not in made:
            loaded = load_engine("vnni", folder, threads)
            assert isinstance(loaded, VnniEngine)
            made[threads] = loaded
        return made[threads]

    return engine


def window(length: int, words: int, seed: int = 0) -> Window:
    source = np.random.default_rng((length, seed))
    types = np.zeros(length, dtype=np.int64)
    types[length // 3 :] = 1
    return Window(source.integers(0, words, length), types, 0, np.empty((0, 2), dtype=np.int64))


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of the difference, over the spread of what is wanted."""
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / np.std(wanted))


@pytest.mark.parametrize("length", [1, 2, 11, 12, 13, 31, 32, 33, 80])
def test_logits_are_those_of_the_float_model_but_for_the_rounding_to_bytes(tiny: Engine, length: int) -> None:
    given = window(length, TINY.words)

    start, end = tiny(2).infer(EncoderBatch.of([given]))

    wanted = _TINY_BERT.logits(given.input_ids, given.token_type_ids)
    for found, right in zip((start[0], end[0]), wanted, strict=True):
        assert found.shape == (length,)
        assert np.abs(found - right).max() < 0.1 * np.abs(np.concatenate(wanted)).max()


@needs_vnni
def test_at_the_width_of_bert_base_they_differ_by_hundredths_of_their_spread(base: Engine) -> None:
    given = window(182, BASE.words)

    found = base(2).infer(EncoderBatch.of([given]))

    wanted = _BASE_BERT.logits(given.input_ids, given.token_type_ids)
    assert max(apart(mine[0], right) for mine, right in zip(found, wanted, strict=True)) < 0.03


@needs_vnni
def test_what_the_tolerance_allows_is_less_than_any_part_of_the_model_matters(base: Engine) -> None:
    given = window(182, BASE.words)
    found = base(2).infer(EncoderBatch.of([given]))[0][0]

    for part in ("attention.output.dense", "output.dense", "attention.self.query", "attention.self.value"):
        name = f"bert.encoder.layer.1.{part}.weight"
        without = FloatBert(BASE, _BASE_BERT.state | {name: 0 * _BASE_BERT.state[name]})
        assert apart(found, without.logits(given.input_ids, given.token_type_ids)[0]) > 0.03, part


@pytest.mark.parametrize("threads", [2, 3, 6])
@needs_vnni
def test_any_number_of_threads_gives_the_same_bits(tiny: Engine, base: Engine, threads: int) -> None:
    for engine, words, lengths in ((tiny, TINY.words, range(1, 81, 3)), (base, BASE.words, (5, 64, 191))):
        for length in lengths:
            batch = EncoderBatch.of([window(length, words)])
            assert _same(engine(threads).infer(batch), engine(1).infer(batch)), length


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    "lengths", [(7, 7), (80, 1, 33), (13, 12, 11, 10, 9), (64, 31, 32, 33, 80, 2, 2, 17), tuple(range(1, 30))]
)
def test_company_and_padding_change_no_bit_of_an_answer(tiny: Engine, threads: int, lengths: Sequence[int]) -> None:
    windows = [window(length, TINY.words, seed) for seed, length in enumerate(lengths)]

    start, end = tiny(threads).infer(EncoderBatch.of(windows, 32))

    for row, (each, length) in enumerate(zip(windows, lengths, strict=True)):
        alone = tiny(1).infer(EncoderBatch.of([each]))
        assert _same((start[row : row + 1, :length], end[row : row + 1, :length]), alone)
        assert not start[row, length:].any()
        assert not end[row, length:].any()


def test_lanes_share_the_weights_and_run_at_the_same_time(folders: dict[str, Path], tiny: Engine) -> None:
    lanes = load_lanes("vnni", folders["tiny"], 4)
    batches = [EncoderBatch.of([window(length, TINY.words)]) for length in range(1, 81, 5)]

    def run(lane: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [lanes[lane].infer(batch) for batch in batches for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))

    wanted = [tiny(1).infer(batch) for batch in batches for _ in range(5)]
    assert all(_same(mine, right) for each in found for mine, right in zip(each, wanted, strict=True))


@pytest.mark.parametrize(
    ("ids", "types", "named"),
    [
        ([5, 97], [0, 0], "input_ids are 5 to 97, the model has 0 to 96"),
        ([-1, 5], [0, 0], "input_ids are -1 to 5, the model has 0 to 96"),
        ([5, 6], [0, 2], "token_type_ids are 0 to 2, the model has 0 to 1"),
        ([5] * 81, [0] * 81, "positions are 80 to 80, the model has 0 to 79"),
    ],
)
def test_what_the_model_has_no_embedding_of_is_refused(
    tiny: Engine, ids: list[int], types: list[int], named: str
) -> None:
    given = Window(np.array(ids), np.array(types), 0, np.empty((0, 2), dtype=np.int64))

    with pytest.raises(ValueError, match=named):
        tiny(2).infer(EncoderBatch.of([given]))


def test_a_row_of_nothing_but_padding_is_refused(tiny: Engine) -> None:
    zeros = np.zeros((1, 4), dtype=np.int64)

    with pytest.raises(ValueError, match="positions are -1 to -1"):
        tiny(1).infer(EncoderBatch(zeros, zeros, zeros))


def test_huge_and_vanishing_numbers_stay_numbers(tmp_path: Path, folders: dict[str, Path]) -> None:
    state = dict(_TINY_BERT.state)
    for name in state:
        if name.endswith("self.value.weight"):
            state[name] = 0 * state[name]
        if name.endswith("self.query.weight"):
            state[name] = 1e4 * state[name]
    bert = FloatBert(TINY, state)
    given = window(40, TINY.words)

    engine = load_engine("vnni", bert.save(tmp_path / "model", folders["tiny"] / "encoder.so"), 2)

    start, end = engine.infer(EncoderBatch.of([given]))
    assert np.isfinite(start).all()
    assert np.isfinite(end).all()


def test_rows_of_weights_become_bytes_within_half_a_step() -> None:
    weights = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    weights[3] = 0

    found, scale = quantize_rows(weights)

    assert found.dtype == np.int8
    assert np.abs(found).max(axis=1).tolist() == [127] * 3 + [0] + [127] * 46
    assert (np.abs(found * scale[:, None] - weights) <= scale[:, None] * 0.501).all()


def _same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(mine, other) for mine, other in zip(first, second, strict=True))
