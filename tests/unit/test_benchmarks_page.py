"""benchmarks/README.md says what the recorded results say."""

import importlib.util

import pytest

from benchmarks.__main__ import HERE, README, rendered
from benchmarks.catalogue import BENCHMARKS, Benchmark


def test_the_page_is_what_the_results_say() -> None:
    assert README.read_text() == rendered(), "run `python -m benchmarks`"


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.title)
def test_every_benchmark_has_a_command_that_is_there_and_a_plot_where_it_compares(benchmark: Benchmark) -> None:
    module = benchmark.command.removeprefix("python -m ")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert importlib.util.find_spec(f"{module}.__main__") is not None if found.submodule_search_locations else True
    assert (HERE / benchmark.picture).exists() == (benchmark.bars is not None)


def test_every_recorded_benchmark_is_on_the_page() -> None:
    told = {benchmark.result.partition("/")[0] for benchmark in BENCHMARKS}
    assert {path.parent.parent.name for path in HERE.glob("*/results/*.json")} == told
