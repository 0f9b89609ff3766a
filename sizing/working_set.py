"""Working set of a multi-model endpoint: how many models an instance must hold, the hit rate, and the cost of misses.

An instance keeps the models that fit and evicts the least recently used one to load another. Requests are assumed to
choose their models independently, each model with its own probability.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sizing.prices import Price

_COLUMNS = ("target_model", "count")
_MAX_DIGITS = 15
"""Counts of up to this many digits are exact as floats."""
_MAX_EXPONENT = 10.0
_PRECISION = 1e-12


class WorkingSetError(ValueError):
    """An input is out of range, or nothing meets the target; the message names the field, the value and the fix."""


@dataclass(frozen=True, slots=True)
class Popularity:
    """Distribution of requests over models. Raises WorkingSetError.

    probabilities: probability of each model to be the next one requested, in any order, 0 to 1, with a sum of 1.
    """

    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        for index, probability in enumerate(self.probabilities):
            if not 0 <= probability <= 1:
                raise WorkingSetError(f"probabilities[{index}] is {probability}: give one from 0 to 1")
        total = math.fsum(self.probabilities)
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise WorkingSetError(f"probabilities add up to {total}: divide each by their sum")

    @property
    def requested(self) -> int:
        """Number of models that are requested at all."""
        return sum(probability > 0 for probability in self.probabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Load of a multi-model endpoint. Raises WorkingSetError for values out of range.

    model_mib: memory that one model counts for, in MiB, above 0; at least the container's reservation for a model.
    load_ms: wait of a request for a model that is not loaded, from the miss to the start of processing, in ms.
    service_ms: service time of a request whose model is loaded, in ms.
    requests_per_second: rate of the whole endpoint; 0 if unknown, which ignores requests that wait for another
        request's load.
    instances: 1 or more. Each is assumed to see the same popularity and an equal share of the rate, because SageMaker
        spreads a model's requests over its instances.
    """

    popularity: Popularity
    model_mib: float
    load_ms: float
    service_ms: float
    requests_per_second: float = 0.0
    instances: int = 1

    def __post_init__(self) -> None:
        if not (self.model_mib > 0 and math.isfinite(self.model_mib)):
            raise WorkingSetError(f"model_mib is {self.model_mib}: give the memory of a model in MiB, above 0")
        for field in ("load_ms", "service_ms", "requests_per_second"):
            value = getattr(self, field)
            if not (value >= 0 and math.isfinite(value)):
                raise WorkingSetError(f"{field} is {value}: give a number from 0")
        if self.instances < 1:
            raise WorkingSetError(f"instances is {self.instances}: give 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Steady state of an endpoint, once the memory of each instance has filled.

    slots: models that fit on an instance.
    hit_rate: fraction of requests whose model is loaded or loading.
    loads_per_1000_requests, evictions_per_1000_requests: for the whole endpoint; equal, because every load into full
        memory evicts another model.
    waiting_share: fraction of requests that wait for a load, their own or one in progress.
    mean_wait_ms: mean wait for loads over all requests.
    mean_latency_ms: mean wait plus service_ms.
    first_loads: loads until the memory of every instance has filled, which the other numbers exclude.
    """

    slots: int
    hit_rate: float
    loads_per_1000_requests: float
    evictions_per_1000_requests: float
    waiting_share: float
    mean_wait_ms: float
    mean_latency_ms: float
    first_loads: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance type to choose from. Raises WorkingSetError if models_mib is not finite.

    models_mib: memory for models, in MiB; negative if the container alone needs more memory than there is.
    """

    price: Price
    models_mib: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.models_mib):
            raise WorkingSetError(f"models_mib is {self.models_mib}: give the memory for models in MiB")


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen instance type, its predicted behavior, and the cost of all instances in US dollars per hour."""

    candidate: Candidate
    prediction: Prediction
    usd_per_hour: float


def uniform(models: int) -> Popularity:
    """Return equal probabilities for all models; raises WorkingSetError for fewer than 1."""
    return zipf(models, 0)


def zipf(models: int, exponent: float) -> Popularity:
    """Return probabilities by Zipf's law: the model of rank k has a probability proportional to k ** -exponent.

    Raises WorkingSetError for fewer than 1 model or an exponent outside 0 to 10.
    """
    if models < 1:
        raise WorkingSetError(f"models is {models}: give 1 or more")
    if not 0 <= exponent <= _MAX_EXPONENT:
        raise WorkingSetError(f"exponent is {exponent}: give a number from 0 (uniform) to {_MAX_EXPONENT:g}")
    return _normalised([rank**-exponent for rank in range(1, models + 1)])


def parse_counts(text: str, source: str) -> Popularity:
    """Parse a CSV of requests per model with the columns `target_model` and `count`; other columns are ignored.

    source: name of the text in error messages.

    Raises WorkingSetError, with the line, for a missing column, a row of another length, a model without a name or
    named twice, or a count that is not a whole number from 0.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    counts: list[int] = []
    lines: dict[str, int] = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in _COLUMNS:
            if header.count(name) != 1:
                found = ", ".join(header) or "nothing"
                raise WorkingSetError(
                    f"{source}, line 1: the header is {found[:80]}: it must have the column {name} once"
                )
        model_column, count_column = (header.index(name) for name in _COLUMNS)
        for row in reader:
            if not row:
                continue
            where = f"{source}, line {reader.line_num}"
            if len(row) != len(header):
                raise WorkingSetError(f"{where}: the row has {len(row)} values: give {len(header)}, like the header")
            model, count = row[model_column].strip(), row[count_column].strip()
            if not model:
                raise WorkingSetError(f"{where}: target_model is empty: name the model")
            if model in lines:
                raise WorkingSetError(
                    f"{where}: target_model is {model[:80]!r}, as in line {lines[model]}: add up the two counts"
                )
            if not (count.isascii() and count.isdigit() and len(count) <= _MAX_DIGITS):
                raise WorkingSetError(
                    f"{where}: count is {count[:80]!r}: give a whole number from 0, of at most {_MAX_DIGITS} digits"
                )
            lines[model] = reader.line_num
            counts.append(int(count))
    except csv.Error as error:
        raise WorkingSetError(f"{source}, line {reader.line_num}: {error}: give valid CSV") from error
    if not any(counts):
        raise WorkingSetError(f"{source}: no model has a count above 0: give requests for at least one model")
    return _normalised(counts)


def memory_for_models_mib(instance_mib: float, base_mib: float, headroom: float = 0.1) -> float:
    """Return the memory for models on an instance, in MiB: instance_mib * (1 - headroom) - base_mib.

    base_mib: memory of the container without models.
    headroom: fraction reserved for requests, 0 to below 1.

    The formula and the default are those of containers.serving.multi_model.MemoryBudget. Raises WorkingSetError.
    """
    if not (instance_mib > 0 and math.isfinite(instance_mib)):
        raise WorkingSetError(f"instance_mib is {instance_mib}: give the instance's memory in MiB, above 0")
    if not (base_mib >= 0 and math.isfinite(base_mib)):
        raise WorkingSetError(f"base_mib is {base_mib}: give the container's memory without models in MiB, from 0")
    if not 0 <= headroom < 1:
        raise WorkingSetError(f"headroom is {headroom}: give a fraction from 0 to below 1")
    return instance_mib * (1 - headroom) - base_mib


def slots_in(models_mib: float, model_mib: float) -> int:
    """Return how many models of model_mib, above 0, fit in models_mib; raises WorkingSetError if none fits."""
    if not model_mib > 0:
        raise WorkingSetError(f"model_mib is {model_mib}: give the memory of a model in MiB, above 0")
    quotient = models_mib / model_mib
    # Rounding puts a quotient such as 0.3 / 0.1 just below a whole number; do not round that down.
    slots = math.floor(quotient + 1e-9) if math.isfinite(quotient) else 0
    if slots < 1:
        raise WorkingSetError(
            f"models_mib is {models_mib:g}, but a model takes {model_mib:g} MiB: use an instance with more memory"
        )
    return slots


def characteristic_time(popularity: Popularity, slots: int) -> float:
    """Return the number of requests after which an unused model is evicted; infinite if all models fit.

    It is the T that solves sum(1 - exp(-p * T)) = slots over all models' probabilities p: T requests are for as many
    distinct models as fit. Source: Che, Tung and Wang, "Hierarchical Web caching systems: modeling, design and
    experimental results", IEEE JSAC 20(7), 2002. Fricker, Robert and Roberts, "A versatile and accurate approximation
    for LRU cache performance", ITC 24, 2012, explain why it is so accurate. Raises WorkingSetError for less than 1
    slot.
    """
    if slots < 1:
        raise WorkingSetError(f"slots is {slots}: give 1 or more")
    if slots >= popularity.requested:
        return math.inf
    groups = _groups(popularity)
    low, high = 0.0, float(slots)
    while math.isfinite(high) and _distinct(groups, high) < slots:
        low, high = high, 2 * high
    # The middle of two neighboring floats is one of them, so stop there whatever the precision.
    while high - low > _PRECISION * high and low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _distinct(groups, middle) < slots else (low, middle)
    return high


def hit_rate(popularity: Popularity, slots: int) -> float:
    """Return the fraction of requests whose model is in `slots` kept by last use: 1 - sum(p * exp(-p * T)).

    This is Che's approximation, with T from `characteristic_time`; 1 if all models fit. From 2 slots, it is within
    0.01 of a simulated LRU for Zipf exponents up to 2, and within 0.02 if a few models have most of the requests and
    only those few fit. With a single slot it is up to 0.05 too low. Raises WorkingSetError for less than 1 slot.
    """
    return 1 - _miss_rate(popularity, characteristic_time(popularity, slots))


def slots_for(popularity: Popularity, target_hit_rate: float) -> int:
    """Return the fewest slots that reach the target hit rate; raises WorkingSetError for a target outside 0 to 1."""
    _check_target(target_hit_rate)
    low, high = 1, popularity.requested
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if hit_rate(popularity, middle) >= target_hit_rate else (middle + 1, high)
    return low


def predict(workload: Workload, models_mib: float) -> Prediction:
    """Predict the endpoint's behavior with models_mib of memory for models on each instance, in MiB.

    Let L be the load time, r = requests_per_second / instances, and m = exp(-p * T) a model's miss rate. A miss waits
    L. Each of the p * r * L requests that arrive while the model loads waits L / 2 on average, assuming Poisson
    arrivals. So waiting_share = sum(p * m * (1 + p * r * L)), and mean_wait = sum(p * m * (L + p * r * L**2 / 2)),
    where each model's part is limited to all of its requests waiting. Both are too high if a load takes about as long
    as a model stays, which is T / r: such an endpoint does nothing but load. Raises WorkingSetError if no model fits.
    """
    slots = slots_in(models_mib, workload.model_mib)
    popularity, load_ms = workload.popularity, workload.load_ms
    time = characteristic_time(popularity, slots)
    per_ms = workload.requests_per_second / workload.instances / 1000
    miss_rate = _miss_rate(popularity, time)
    waiting = wait_ms = 0.0
    for probability, number in _groups(popularity):
        missed = math.exp(-probability * time)
        followers = probability * per_ms * load_ms
        waiting += number * probability * min(1.0, missed * (1 + followers))
        wait_ms += number * probability * min(load_ms, load_ms * missed * (1 + followers / 2))
    return Prediction(
        slots=slots,
        hit_rate=1 - miss_rate,
        loads_per_1000_requests=1000 * miss_rate,
        evictions_per_1000_requests=1000 * miss_rate,
        waiting_share=waiting,
        mean_wait_ms=wait_ms,
        mean_latency_ms=workload.service_ms + wait_ms,
        first_loads=workload.instances * min(slots, popularity.requested),
    )


def smallest_instance(workload: Workload, candidates: Sequence[Candidate], target_hit_rate: float) -> Choice:
    """Return the cheapest candidate that reaches the target hit rate; of equally cheap ones, the one with less memory.

    Raises WorkingSetError for a target outside 0 to 1 and, naming the best candidate, if none reaches it.
    """
    _check_target(target_hit_rate)
    fitting = [candidate for candidate in candidates if candidate.models_mib >= workload.model_mib]
    choices = [
        Choice(candidate, predict(workload, candidate.models_mib), candidate.price.usd_per_hour * workload.instances)
        for candidate in fitting
    ]
    enough = [choice for choice in choices if choice.prediction.hit_rate >= target_hit_rate]
    if enough:
        return min(
            enough,
            key=lambda choice: (choice.usd_per_hour, choice.candidate.models_mib, choice.candidate.price.instance_type),
        )
    if not choices:
        largest = max((candidate.models_mib for candidate in candidates), default=0.0)
        raise WorkingSetError(
            f"candidates have at most {largest:g} MiB for models, but a model takes {workload.model_mib:g} MiB: "
            "add a larger instance type"
        )
    best = max(choices, key=lambda choice: choice.prediction.hit_rate)
    raise WorkingSetError(
        f"target_hit_rate is {target_hit_rate}: {best.candidate.price.instance_type} holds the most models, "
        f"{best.prediction.slots} of the {slots_for(workload.popularity, target_hit_rate)} needed, and reaches "
        f"{best.prediction.hit_rate:.4f}; add a larger instance type or lower the target"
    )


def _check_target(target_hit_rate: float) -> None:
    if not 0 < target_hit_rate <= 1:
        raise WorkingSetError(
            f"target_hit_rate is {target_hit_rate}: give a fraction above 0 and up to 1, such as 0.99"
        )


def _normalised(weights: Sequence[float]) -> Popularity:
    total = math.fsum(weights)
    return Popularity(tuple(weight / total for weight in weights))


def _groups(popularity: Popularity) -> list[tuple[float, int]]:
    """Return each probability above 0 with its number of models, rarest first to keep precision in sums."""
    counted = Counter(probability for probability in popularity.probabilities if probability > 0)
    return sorted(counted.items())


def _miss_rate(popularity: Popularity, time: float) -> float:
    return math.fsum(
        number * probability * math.exp(-probability * time) for probability, number in _groups(popularity)
    )


def _distinct(groups: Sequence[tuple[float, int]], requests: float) -> float:
    """Return the expected number of distinct models among that many requests."""
    return math.fsum(number * -math.expm1(-probability * requests) for probability, number in groups)
