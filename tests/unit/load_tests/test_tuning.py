"""The tuner tries settings in groups, ends what is dominated early, and chooses only what kept its promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from load_tests.traffic import Traffic
from load_tests.tuning import report, space
from load_tests.tuning.search import Plan, Sweep, Trial, TrialFailedError, sweep
from load_tests.tuning.space import Candidate
from stacks.settings.saved_model import SavedModelEndpoint
from stacks.settings.tensorflow_serving import TensorFlowServing

ENDPOINT = SavedModelEndpoint(server="tensorflow_serving")
PLAN = Plan(vcpus=2, clients=4, inference_script=False)


def traffic(per_second: float, latency: float = 0.1, failed: int = 0, seconds: float = 10.0) -> Traffic:
    return Traffic((latency,) * round(per_second * seconds), seconds, failed)


@dataclass
class FakeBench:
    """Every setting has a rate and a latency; the deployed endpoint answers 10 a second, alike or drifting."""

    rates: Mapping[str, float]
    latencies: Mapping[str, float] = field(default_factory=dict)
    open_failures: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    drift: Sequence[float] = (1.0,)
    served: list[str] = field(default_factory=list)
    turns: dict[str, int] = field(default_factory=dict)
    opened: dict[str, float] = field(default_factory=dict)

    def serve(self, candidate: Candidate) -> None:
        self.served.append(candidate.label)
        if candidate.label in self.refused:
            raise TrialFailedError(self.refused[candidate.label])

    def closed_loop(self) -> tuple[Traffic, Traffic]:
        label = self.served[-1]
        turn = self.turns.get(label, 0)
        self.turns[label] = turn + 1
        now = self.drift[turn % len(self.drift)]
        rate = self.rates.get(label, 10.0) * (1 + 0.001 * turn)
        return traffic(rate * now, self.latencies.get(label, 0.1)), traffic(10 * now)

    def open_loop(self, rate: float) -> Traffic:
        label = self.served[-1]
        self.opened[label] = rate
        return traffic(rate, self.latencies.get(label, 0.1), self.open_failures.get(label, 0))


def run(bench: FakeBench, plan: Plan = PLAN) -> Sweep:
    return sweep(plan, bench, on_trial=lambda _trial: None, on_start=lambda _label: None)


def outcome(found: Sweep, label: str) -> tuple[str, str]:
    (trial,) = (each for each in found.trials if each.candidate.label == label)
    return trial.outcome, trial.reason


def test_the_containers_defaults_come_first_and_no_setting_twice() -> None:
    for vcpus in (1, 2, 4, 8, 64):
        tried = space.parallelism(vcpus)
        assert tried[0].label == "defaults"
        assert len({each.knobs for each in tried}) == len(tried)


@pytest.mark.parametrize("vcpus", [1, 2, 4, 8, 64])
def test_nothing_is_tried_that_synth_would_warn_of(vcpus: int) -> None:
    base = TensorFlowServing(inter_op_parallelism=1)
    tried = [*space.parallelism(vcpus), *space.batching(base, vcpus, 4), *space.python_service(base, vcpus)]
    for each in tried:
        assert each.knobs.without_effect(inference_script=True, vcpus=vcpus) == [], each.label


def test_the_published_ratio_of_processes_to_vcpus_is_tried() -> None:
    published = TensorFlowServing(inter_op_parallelism=1, intra_op_parallelism=1, instance_count=8)
    assert published in [each.knobs for each in space.parallelism(64)]


def test_batches_are_tried_on_the_best_of_the_threads() -> None:
    bench = FakeBench({"intra-op 1": 15.0})
    found = run(bench)
    batched = [label for label in bench.served if "batches" in label]
    assert batched
    assert all(label.startswith("intra-op 1, batches") for label in batched)
    assert found.best is not None
    assert found.best.candidate.label == "intra-op 1"


def test_gunicorn_is_tried_only_where_a_script_makes_it_run() -> None:
    without, having = FakeBench({}), FakeBench({})
    run(without)
    run(having, Plan(vcpus=2, clients=4, inference_script=True))
    assert not [label for label in without.served if "gunicorn" in label]
    assert [label for label in having.served if "gunicorn" in label]


def test_one_client_fills_no_batch() -> None:
    bench = FakeBench({})
    run(bench, Plan(vcpus=2, clients=1, inference_script=False))
    assert not [label for label in bench.served if "batches" in label]


def test_a_dominated_setting_gets_no_open_loop_and_no_further_turn() -> None:
    bench = FakeBench({"intra-op 1": 5.0}, {"intra-op 1": 0.3})
    found = run(bench, Plan(vcpus=2, clients=4, inference_script=False, slices=9))
    assert outcome(found, "intra-op 1") == ("dominated", "by defaults")
    assert "intra-op 1" not in bench.opened
    assert (bench.turns["intra-op 1"], bench.turns["defaults"]) == (3, 9)


def test_a_slower_setting_with_quicker_answers_is_not_dominated() -> None:
    bench = FakeBench({"intra-op 1": 5.0}, {"intra-op 1": 0.05})
    assert outcome(run(bench), "intra-op 1") == ("measured", "")


def test_a_machine_that_drifts_between_turns_decides_nothing() -> None:
    bench = FakeBench({"intra-op 1": 12.0}, drift=(1.0, 0.4, 0.7))
    best = run(bench).best
    assert best is not None
    assert best.candidate.label == "intra-op 1"
    assert best.ratio == pytest.approx(1.2, rel=0.01)


def test_every_open_loop_has_one_rate_seven_tenths_of_the_deployed_endpoints() -> None:
    bench = FakeBench({"intra-op 1": 30.0})
    found = run(bench)
    assert set(bench.opened.values()) == {found.rate}
    assert found.rate == pytest.approx(7.0)


def test_a_given_rate_is_kept() -> None:
    bench = FakeBench({})
    run(bench, Plan(vcpus=2, clients=4, inference_script=False, rate=3.0))
    assert set(bench.opened.values()) == {3.0}


def test_what_cannot_be_served_is_reported_and_the_sweep_goes_on() -> None:
    bench = FakeBench({}, refused={"intra-op 1": "not enough ports"})
    found = run(bench)
    assert outcome(found, "intra-op 1") == ("failed", "not enough ports")
    assert bench.served[-1] != "intra-op 1"


def test_a_setting_that_loses_requests_is_never_the_best() -> None:
    bench = FakeBench({"intra-op 1": 50.0}, open_failures={"intra-op 1": 1})
    best = run(bench).best
    assert best is not None
    assert not best.candidate.label.startswith("intra-op 1,")
    assert best.candidate.label != "intra-op 1"


def test_of_settings_that_are_alike_the_one_with_the_quickest_tail_is_best() -> None:
    bench = FakeBench({}, {"inter-op 1": 0.08})
    best = run(bench).best
    assert best is not None
    assert best.candidate.label.startswith("inter-op 1")


def test_a_limit_on_p99_shuts_out_the_fastest() -> None:
    bench = FakeBench({"intra-op 1": 20.0}, {"intra-op 1": 0.5})
    plan = Plan(vcpus=2, clients=4, inference_script=False, p99_limit_ms=200)
    best = run(bench, plan).best
    assert best is not None
    assert best.candidate.label != "intra-op 1"


def test_without_any_fit_setting_the_conclusion_says_what_to_change() -> None:
    found = run(FakeBench({}), Plan(vcpus=2, clients=4, inference_script=False, p99_limit_ms=1))
    assert found.best is None
    assert "none keeps P99 below 1 ms" in report.conclusion(found)


def test_the_conclusion_names_gain_and_worst_against_the_defaults() -> None:
    text = report.conclusion(run(FakeBench({"intra-op 1": 20.0, "inter-op 1": 5.0})))
    assert text.startswith("best: intra-op 1, 2.00 times the defaults")
    assert "the slowest, inter-op 1, 0.50 times" in text


def test_a_gain_within_the_noise_is_called_so() -> None:
    only = (space.candidate(TensorFlowServing()), space.candidate(TensorFlowServing(inter_op_parallelism=1)))
    bench = FakeBench({"inter-op 1": 10.001}, {"inter-op 1": 0.09})
    text = report.conclusion(run(bench, Plan(vcpus=2, clients=4, inference_script=False, only=only)))
    assert "this may be noise" in text


def test_the_snippet_is_a_deployment_with_the_best_settings() -> None:
    best = Trial(space.candidate(TensorFlowServing(intra_op_parallelism=1, instance_count=2)), "measured")
    found = yaml.safe_load(report.snippet(best, "saved_model", "tuned", ENDPOINT))
    endpoint = SavedModelEndpoint.model_validate(found["workloads"]["saved_model"]["endpoints"]["tuned"])
    assert endpoint.knobs == best.candidate.knobs


def test_figures_plot_and_snippet_are_written(tmp_path: Path) -> None:
    found = run(FakeBench({"intra-op 1": 5.0}, {"intra-op 1": 0.3}, refused={"inter-op 1": "no"}))
    report.write(found, tmp_path, title="title", best_text="a: 1\n")
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0].startswith("settings,outcome,reason,turn,requests")
    assert any("dominated" in line for line in lines)
    assert any(line.startswith("inter-op 1,failed,no") for line in lines)
    assert (tmp_path / "best.yaml").read_text() == "a: 1\n"
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")


def test_a_snippet_of_an_earlier_sweep_does_not_outlive_one_without_a_best(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("old: 1\n")
    found = run(FakeBench({}), Plan(vcpus=2, clients=4, inference_script=False, p99_limit_ms=1))
    report.write(found, tmp_path, title="title", best_text=None)
    assert not (tmp_path / "best.yaml").exists()
