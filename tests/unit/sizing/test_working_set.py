"""The predicted cache is the simulated one, and every input that makes no sense is named."""

import math
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.serving.multi_model import MemoryBudget
from sizing.instances import instance
from sizing.prices import Price, price
from sizing.working_set import (
    Candidate,
    Popularity,
    WorkingSetError,
    Workload,
    characteristic_time,
    hit_rate,
    memory_for_models_mib,
    parse_counts,
    predict,
    slots_for,
    slots_in,
    smallest_instance,
    uniform,
    zipf,
)

STATES = 51
TWO_KINDS = Popularity((0.2,) * 4 + (0.2 / 96,) * 96)
"""Four models with four fifths of the requests, and 96 with the rest."""


@dataclass(frozen=True)
class Simulated:
    hit_rate: float
    waiting_share: float
    mean_wait_ms: float


def simulated(
    popularity: Popularity, slots: int, *, load_ms: float = 0.0, per_ms: float = 1.0, requests: int = 150_000
) -> Simulated:
    """A least-recently-used cache under Poisson arrivals, after a tenth of the requests has filled it."""
    rng = random.Random(7)
    ready: OrderedDict[int, float] = OrderedDict()
    now, hits, waited, wait_ms = 0.0, 0, 0, 0.0
    targets = rng.choices(range(len(popularity.probabilities)), popularity.probabilities, k=requests)
    for number, model in enumerate(targets):
        now += rng.expovariate(per_ms)
        hit = model in ready
        if not hit:
            ready[model] = now + load_ms
            if len(ready) > slots:
                ready.popitem(last=False)
        ready.move_to_end(model)
        if number >= requests // 10:
            hits += hit
            waited += ready[model] > now
            wait_ms += max(0.0, ready[model] - now)
    counted = requests - requests // 10
    return Simulated(hits / counted, waited / counted, wait_ms / counted)


def workload(**changes: Any) -> Workload:
    return Workload(
        **{"popularity": zipf(STATES, 1), "model_mib": 10, "load_ms": 100, "service_ms": 2, "instances": 1, **changes}
    )


def instance_price(name: str, usd_per_hour: float) -> Price:
    return Price("us-east-1", name, usd_per_hour, "2026-01-01", "test")


@pytest.mark.parametrize(
    "popularity",
    [zipf(5, 0.8), uniform(STATES), zipf(STATES, 0.6), zipf(STATES, 1), zipf(STATES, 2), zipf(400, 0.9)],
    ids=["5 models", "uniform", "zipf 0.6", "zipf 1", "zipf 2", "400 models"],
)
@pytest.mark.parametrize("share", [0.04, 0.25, 0.6, 0.98])
def test_the_hit_rate_is_that_of_a_simulated_lru(popularity: Popularity, share: float) -> None:
    slots = max(2, round(share * len(popularity.probabilities)))
    assert hit_rate(popularity, slots) == pytest.approx(simulated(popularity, slots).hit_rate, abs=0.01)


@pytest.mark.parametrize(
    ("popularity", "slots", "error"), [(TWO_KINDS, 4, 0.02), (zipf(STATES, 1), 1, 0.01), (zipf(STATES, 2), 1, 0.05)]
)
def test_the_hit_rate_is_least_exact_where_just_the_few_popular_models_fit(
    popularity: Popularity, slots: int, error: float
) -> None:
    found = simulated(popularity, slots).hit_rate
    assert found - error < hit_rate(popularity, slots) < found


@pytest.mark.parametrize(("slots", "rate"), [(8, 1.0), (8, 20.0), (20, 1.0), (20, 100.0), (40, 20.0), (40, 100.0)])
def test_waits_are_those_of_a_simulated_lru_whose_models_take_time_to_load(slots: int, rate: float) -> None:
    predicted = predict(workload(requests_per_second=rate), models_mib=10 * slots)
    found = simulated(zipf(STATES, 1), slots, load_ms=100, per_ms=rate / 1000)
    assert predicted.waiting_share == pytest.approx(found.waiting_share, abs=0.01)
    assert predicted.mean_wait_ms == pytest.approx(found.mean_wait_ms, abs=1)


def test_with_equal_models_the_hit_rate_is_the_share_that_fits() -> None:
    for slots in (1, 31, 50):
        assert hit_rate(uniform(STATES), slots) == pytest.approx(slots / STATES, abs=1e-9)


def test_the_characteristic_time_is_that_in_which_as_many_models_are_asked_for_as_fit() -> None:
    popularity = zipf(STATES, 1)
    time = characteristic_time(popularity, 20)
    assert sum(1 - math.exp(-p * time) for p in popularity.probabilities) == pytest.approx(20, abs=1e-9)


@pytest.mark.parametrize("slots", [STATES, STATES + 1, 10_000])
def test_where_all_models_fit_nothing_is_loaded_again(slots: int) -> None:
    prediction = predict(workload(requests_per_second=1000, instances=3), models_mib=10 * slots)
    assert characteristic_time(zipf(STATES, 1), slots) == math.inf
    assert (prediction.slots, prediction.hit_rate) == (slots, 1)
    assert (prediction.loads_per_1000_requests, prediction.evictions_per_1000_requests) == (0, 0)
    assert (prediction.waiting_share, prediction.mean_wait_ms, prediction.mean_latency_ms) == (0, 0, 2)
    assert prediction.first_loads == 3 * STATES


def test_one_model_is_loaded_once() -> None:
    prediction = predict(workload(popularity=uniform(1)), models_mib=10)
    assert (prediction.hit_rate, prediction.first_loads) == (1, 1)


def test_a_model_that_nobody_asks_for_takes_no_slot() -> None:
    popularity = Popularity((0.5, 0.5, 0.0, 0.0))
    assert hit_rate(popularity, 2) == 1
    assert slots_for(popularity, 1) == 2


def test_misses_become_loads_unloads_and_waits() -> None:
    prediction = predict(workload(popularity=uniform(STATES)), models_mib=319)
    missed = 20 / STATES
    assert prediction.slots == 31
    assert prediction.loads_per_1000_requests == pytest.approx(1000 * missed)
    assert prediction.evictions_per_1000_requests == prediction.loads_per_1000_requests
    assert prediction.waiting_share == pytest.approx(missed)
    assert prediction.mean_wait_ms == pytest.approx(100 * missed)
    assert prediction.mean_latency_ms == pytest.approx(2 + 100 * missed)
    assert prediction.first_loads == 31


def test_instances_share_the_rate_and_each_fills_its_own_memory() -> None:
    one = predict(workload(requests_per_second=50), models_mib=200)
    three = predict(workload(requests_per_second=150, instances=3), models_mib=200)
    assert (three.hit_rate, three.waiting_share) == (one.hit_rate, one.waiting_share)
    assert three.first_loads == 3 * one.first_loads


def test_at_any_rate_no_request_waits_more_than_a_load() -> None:
    prediction = predict(workload(requests_per_second=1e9), models_mib=10)
    assert prediction.waiting_share == pytest.approx(1)
    assert prediction.mean_wait_ms == pytest.approx(100)


POPULARITIES = st.one_of(
    st.builds(zipf, st.integers(2, 60), st.floats(0, 3)),
    st.lists(st.integers(0, 10**6), min_size=2, max_size=40)
    .filter(any)
    .map(lambda counts: Popularity(tuple(count / sum(counts) for count in counts))),
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(POPULARITIES, st.integers(1, 60), st.floats(0, 1000), st.floats(0, 1000))
def test_more_memory_never_means_more_misses_or_waits(
    popularity: Popularity, slots: int, load_ms: float, rate: float
) -> None:
    served = workload(popularity=popularity, load_ms=load_ms, requests_per_second=rate)
    less, more = predict(served, 10 * slots), predict(served, 10 * (slots + 1))
    assert 0 <= less.hit_rate <= more.hit_rate + 1e-9 <= 1 + 2e-9
    assert more.loads_per_1000_requests <= less.loads_per_1000_requests + 1e-6
    assert more.waiting_share <= less.waiting_share + 1e-9
    assert more.mean_wait_ms <= less.mean_wait_ms + 1e-6
    assert less.waiting_share >= 1 - less.hit_rate - 1e-9


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(2, 60), st.integers(1, 60), st.floats(0, 2), st.floats(0, 1))
def test_the_more_uneven_the_requests_the_higher_the_hit_rate(
    models: int, slots: int, exponent: float, more: float
) -> None:
    assert hit_rate(zipf(models, exponent), slots) <= hit_rate(zipf(models, exponent + more), slots) + 1e-9


@settings(derandomize=True, max_examples=100, deadline=None)
@given(POPULARITIES, st.floats(0.01, 1))
def test_the_slots_for_a_target_reach_it_and_one_less_does_not(popularity: Popularity, target: float) -> None:
    slots = slots_for(popularity, target)
    assert hit_rate(popularity, slots) >= target
    assert slots == 1 or hit_rate(popularity, slots - 1) < target


@settings(derandomize=True, max_examples=50, deadline=None)
@given(POPULARITIES, st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(popularity: Popularity, rng: random.Random) -> None:
    shuffled = list(popularity.probabilities)
    rng.shuffle(shuffled)
    assert hit_rate(Popularity(tuple(shuffled)), 3) == hit_rate(popularity, 3)


def test_probabilities_too_small_to_tell_apart_from_never_are_no_trouble() -> None:
    popularity = Popularity((0.5, 0.5, 5e-324, 5e-324))
    assert hit_rate(popularity, 3) == pytest.approx(1)


def test_the_smallest_instance_is_the_cheapest_that_holds_the_working_set() -> None:
    names = ("ml.c6i.4xlarge", "ml.c6i.large", "ml.c6i.xlarge", "ml.c6i.2xlarge")
    candidates = [
        Candidate(price("us-east-1", name), memory_for_models_mib(instance(name).memory_gib * 1024, 200))
        for name in names
    ]
    served = workload(popularity=zipf(500, 1), model_mib=40, instances=2)
    choice = smallest_instance(served, candidates, 0.9)
    assert choice.candidate.price.instance_type == "ml.c6i.2xlarge"
    assert choice.prediction == predict(served, choice.candidate.models_mib)
    assert choice.usd_per_hour == 2 * price("us-east-1", "ml.c6i.2xlarge").usd_per_hour
    assert choice.prediction.slots >= slots_for(served.popularity, 0.9)
    assert smallest_instance(served, candidates, 0.5).candidate.price.instance_type == "ml.c6i.large"


def test_of_equally_cheap_instances_the_one_with_less_memory_is_taken_and_too_small_ones_are_passed_over() -> None:
    candidates = [
        Candidate(instance_price("ml.roomy", 1), 1000),
        Candidate(instance_price("ml.enough", 1), 510),
        Candidate(instance_price("ml.tiny", 0.1), 9),
        Candidate(instance_price("ml.none", 0.1), -50),
    ]
    assert smallest_instance(workload(), candidates, 1).candidate.price.instance_type == "ml.enough"


def test_a_target_that_no_instance_reaches_is_an_error_with_the_best_there_is() -> None:
    candidates = [Candidate(instance_price("ml.one", 1), 100), Candidate(instance_price("ml.two", 2), 200)]
    with pytest.raises(
        WorkingSetError,
        match=r"^target_hit_rate is 0\.99: ml\.two holds the most models, 20 of the 50 needed, and reaches 0\.\d{4}; "
        "add a larger instance type or lower the target$",
    ):
        smallest_instance(workload(), candidates, 0.99)


@pytest.mark.parametrize("memory", [[], [9.0], [-5.0, 0.0]])
def test_candidates_without_room_for_a_model_are_an_error(memory: list[float]) -> None:
    candidates = [Candidate(instance_price("ml.one", 1), mib) for mib in memory]
    with pytest.raises(
        WorkingSetError, match=r"^candidates have at most \d+ MiB .* takes 10 MiB: add a larger instance type$"
    ):
        smallest_instance(workload(), candidates, 0.5)


@pytest.mark.parametrize(
    ("models_mib", "model_mib", "slots"), [(10, 10, 1), (19.99, 10, 1), (0.3, 0.1, 3), (1e9, 0.5, 2 * 10**9)]
)
def test_slots_are_whole_models(models_mib: float, model_mib: float, slots: int) -> None:
    assert slots_in(models_mib, model_mib) == slots


def test_memory_for_models_is_what_the_containers_budget_gives_them() -> None:
    mib = 2**20
    budget = MemoryBudget(limit_bytes=4096 * mib, base_bytes=150 * mib)
    assert memory_for_models_mib(4096, 150) == pytest.approx(budget.model_bytes / mib, abs=1e-5)
    assert memory_for_models_mib(1000, 0, headroom=0.25) == 750


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: uniform(0), "models is 0: give 1 or more"),
        (lambda: zipf(-1, 1), "models is -1: give 1 or more"),
        (lambda: zipf(5, -0.1), "exponent is -0.1: give a number from 0 (uniform) to 10"),
        (lambda: zipf(5, math.nan), "exponent is nan: give a number from 0 (uniform) to 10"),
        (lambda: zipf(5, 10.5), "exponent is 10.5: give a number from 0 (uniform) to 10"),
        (lambda: Popularity(()), "probabilities add up to 0.0: divide each by their sum"),
        (lambda: Popularity((0.5, 0.4)), "probabilities add up to 0.9: divide each by their sum"),
        (lambda: Popularity((1.5, -0.5)), "probabilities[0] is 1.5: give one from 0 to 1"),
        (lambda: Popularity((0.5, 0.5, math.nan)), "probabilities[2] is nan: give one from 0 to 1"),
        (lambda: workload(model_mib=0), "model_mib is 0: give the memory of a model in MiB, above 0"),
        (lambda: workload(model_mib=math.inf), "model_mib is inf: give the memory of a model in MiB, above 0"),
        (lambda: workload(load_ms=-1), "load_ms is -1: give a number from 0"),
        (lambda: workload(service_ms=math.nan), "service_ms is nan: give a number from 0"),
        (lambda: workload(requests_per_second=-0.5), "requests_per_second is -0.5: give a number from 0"),
        (lambda: workload(instances=0), "instances is 0: give 1 or more"),
        (lambda: hit_rate(uniform(5), 0), "slots is 0: give 1 or more"),
        (lambda: characteristic_time(uniform(5), -1), "slots is -1: give 1 or more"),
        (
            lambda: predict(workload(), 9.9),
            "models_mib is 9.9, but a model takes 10 MiB: use an instance with more memory",
        ),
        (lambda: slots_in(math.inf, 1), "models_mib is inf, but a model takes 1 MiB"),
        (lambda: slots_in(1, 0), "model_mib is 0: give the memory of a model in MiB, above 0"),
        (lambda: slots_for(uniform(5), 0), "target_hit_rate is 0: give a fraction above 0 and up to 1, such as 0.99"),
        (lambda: slots_for(uniform(5), 99), "target_hit_rate is 99: give a fraction above 0 and up to 1"),
        (lambda: smallest_instance(workload(), [], math.nan), "target_hit_rate is nan: give a fraction above 0"),
        (lambda: Candidate(instance_price("ml.one", 1), math.nan), "models_mib is nan: give the memory for models"),
        (lambda: memory_for_models_mib(0, 1), "instance_mib is 0: give the instance's memory in MiB, above 0"),
        (lambda: memory_for_models_mib(1, -1), "base_mib is -1: give the container's memory without models"),
        (lambda: memory_for_models_mib(1, 1, 1), "headroom is 1: give a fraction from 0 to below 1"),
    ],
)
def test_an_input_out_of_range_is_an_error_with_field_value_and_fix(make: Callable[[], object], says: str) -> None:
    with pytest.raises(WorkingSetError) as raised:
        make()
    assert says in str(raised.value)


def test_counts_become_probabilities() -> None:
    parsed = parse_counts("target_model,count\nohio.tar.gz,30\nutah.tar.gz,10\niowa.tar.gz,0\n", "log.csv")
    assert parsed.probabilities == (0.75, 0.25, 0)
    assert parsed.requested == 2


@pytest.mark.parametrize(
    "text",
    [
        "target_model,count\r\na,1\r\nb,3\r\n",
        "count,target_model\n1,a\n3,b",
        "region, target_model ,latency,count\nx,a,0.5, 1 \nx,b,,3\n",
        '"target_model","count"\n"a","1"\n"b",3\n',
        'target_model,count\n"a,\nwith a line in its name",1\nb,003\n',
    ],
)
def test_counts_are_read_as_programs_write_csv(text: str) -> None:
    assert parse_counts(text, "log.csv").probabilities == (0.25, 0.75)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "log.csv, line 1: the header is nothing: it must have the column target_model once"),
        ("ohio,3\n", "log.csv, line 1: the header is ohio, 3: it must have the column target_model once"),
        ("target_model,requests\na,1\n", "header is target_model, requests: it must have the column count once"),
        ("target_model,count,count\n", "it must have the column count once"),
        ("target_model,count\na\n", "log.csv, line 2: the row has 1 values: give 2, like the header"),
        ("target_model,count\na,1\nb,1,000\n", "log.csv, line 3: the row has 3 values: give 2"),
        ("target_model,count\n ,1\n", "log.csv, line 2: target_model is empty: name the model"),
        ("target_model,count\na,1\nb,1\na,2\n", "line 4: target_model is 'a', as in line 2: add up the two counts"),
        ("target_model,count\na,\n", "log.csv, line 2: count is '': give a whole number from 0"),
        ("target_model,count\na,-1\n", "log.csv, line 2: count is '-1': give a whole number from 0"),
        ("target_model,count\na,1.5\n", "count is '1.5': give a whole number from 0"),
        ("target_model,count\na,1e3\n", "count is '1e3': give a whole number from 0"),
        ("target_model,count\na,\u0663\n", "count is '\u0663': give a whole number from 0"),
        ('target_model,count\na,"1,000"\n', "count is '1,000': give a whole number from 0"),
        (f"target_model,count\na,{'9' * 5000}\n", f"count is '{'9' * 80}': give a whole number from 0, of at most"),
        ("target_model,count\n", "log.csv: no model has a count above 0: give requests for at least one model"),
        ("target_model,count\na,0\n", "log.csv: no model has a count above 0"),
        ('target_model,count\na,"1\n', "log.csv, line 2: unexpected end of data: give valid CSV"),
        ('target_model,count\na,"1"x\n', "log.csv, line 2: ',' expected after '\"': give valid CSV"),
        (f"target_model,count\n{'x' * 200_000},1\n", "log.csv, line 2: field larger than field limit"),
    ],
    ids=range(20),
)
def test_a_table_that_is_wrong_is_an_error_with_line_field_and_value(text: str, says: str) -> None:
    with pytest.raises(WorkingSetError) as raised:
        parse_counts(text, "log.csv")
    assert says in str(raised.value)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text('target_model,count\n"a1', max_size=40).map("target_model,count\n{}".format))
def test_any_text_is_a_popularity_or_an_error_that_names_its_source(text: str) -> None:
    try:
        assert math.isclose(sum(parse_counts(text, "log.csv").probabilities), 1)
    except WorkingSetError as error:
        assert str(error).startswith("log.csv")
