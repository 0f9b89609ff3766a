"""Choose one of SageMaker's hosting options: the published decision tree as a table of rules with their sources.

The rules are evaluated in order. Each answer leads to a hosting option or to the next rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Hosting = Literal["real-time", "multi-model", "serverless", "asynchronous", "batch"]
HOSTINGS: tuple[Hosting, ...] = ("real-time", "multi-model", "serverless", "asynchronous", "batch")

REAL_TIME_MIB, SERVERLESS_MIB, ASYNCHRONOUS_MIB = 6.0, 4.0, 1024.0
REAL_TIME_SECONDS, ASYNCHRONOUS_SECONDS = 60.0, 3600.0
SERVERLESS_GIB, SERVERLESS_CONCURRENCY = 6.0, 200
SERVERLESS_USD_PER_GB_SECOND = 0.00002
"""us-east-1; AWS Price List, AmazonSageMaker, usage type USE1-ServerlessInf:Mem-3GB: $0.00006 per second,
2026-09-09."""
LATER_SECONDS = 300.0
"""A response that may take this long can wait for an instance to start."""

_OPTIONS = "Inference options in Amazon SageMaker AI, developer guide"
_INVOKE = "InvokeEndpoint, SageMaker Runtime API reference (body up to 6,291,456 bytes, answer within 60 s)"
_INVOKE_ASYNC = "Asynchronous inference, developer guide (payload up to 1 GB, processing up to one hour)"
_MULTI_MODEL = (
    "Multi-model endpoints, developer guide (models of one framework share a container; GPU with Triton only)"
)
_SERVERLESS = "Deploy models with Amazon SageMaker Serverless Inference, developer guide (no GPU; cold starts)"
_SERVERLESS_CONFIG = "ProductionVariantServerlessConfig, API reference (memory up to 6144 MB, concurrency up to 200)"
_SERVERLESS_INVOKE = "Invoke a serverless endpoint, developer guide (request and response up to 4 MB)"
_PRICE = "AWS Price List, AmazonSageMaker, USE1-ServerlessInf, 2026-09-09; sizing/prices.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Requirements of a workload.

    offline: whether all data exists beforehand and nobody waits.
    deadline_seconds: response deadline; None if a caller waits for the response.
    payload_mib: size of a request or response, in MiB.
    seconds: processing time of a slow request on an instance.
    memory_gib: memory of the container with its model, in GiB.
    models: number of models that could share a container.
    idle_share: fraction of the time without requests, 0 to below 1.
    p99_ms: P99 latency target, in milliseconds.
    cold_start_seconds: time from the start of a container to its first response.
    in_flight: concurrent requests at the peak.
    instances_usd, serverless_usd: average cost in US dollars per hour.
    """

    payload_mib: float
    seconds: float
    memory_gib: float
    p99_ms: float
    in_flight: float
    instances_usd: float
    serverless_usd: float
    models: int = 1
    idle_share: float = 0.0
    accelerator: bool = False
    offline: bool = False
    deadline_seconds: float | None = None
    cold_start_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Rule:
    """A yes-or-no question about the requirements.

    facts: the figures that the question looks at, in words.
    yes, no: hosting option that the answer leads to; None for the next rule.
    source: source of the limit.
    """

    question: str
    holds: Callable[[Needs], bool]
    facts: Callable[[Needs], str]
    yes: Hosting | None
    no: Hosting | None
    source: str


def _size(needs: Needs) -> str:
    return f"{needs.payload_mib:g} MiB, {needs.seconds:.3g} s"


def _accelerated(needs: Needs) -> str:
    return " on an accelerator" if needs.accelerator else ""


RULES: tuple[Rule, ...] = (
    Rule(
        "Does all data exist beforehand, with nobody waiting for responses?",
        lambda needs: needs.offline,
        lambda needs: "a data set" if needs.offline else "requests arrive one by one",
        "batch", None, _OPTIONS,
    ),
    Rule(
        "More than 1 GB, or more than an hour?",
        lambda needs: needs.payload_mib > ASYNCHRONOUS_MIB or needs.seconds > ASYNCHRONOUS_SECONDS,
        _size,
        "batch", None, _INVOKE_ASYNC,
    ),
    Rule(
        "More than 6 MiB, or more than 60 s?",
        lambda needs: needs.payload_mib > REAL_TIME_MIB or needs.seconds > REAL_TIME_SECONDS,
        _size,
        "asynchronous", None, _INVOKE,
    ),
    Rule(
        "May a response take five minutes or longer?",
        lambda needs: (needs.deadline_seconds or 0.0) >= LATER_SECONDS,
        lambda needs: "a caller waits" if needs.deadline_seconds is None else f"within {needs.deadline_seconds:g} s",
        "asynchronous", None, _OPTIONS,
    ),
    Rule(
        "Do several models share a container, without an accelerator?",
        lambda needs: needs.models > 1 and not needs.accelerator,
        lambda needs: f"{needs.models} model{'s' * (needs.models > 1)}{_accelerated(needs)}",
        "multi-model", None, _MULTI_MODEL,
    ),
    Rule(
        "Are there times without a request?",
        lambda needs: needs.idle_share > 0,
        lambda needs: f"idle for {needs.idle_share:.0%} of the time",
        None, "real-time", _SERVERLESS,
    ),
    Rule(
        "Does it need an accelerator?",
        lambda needs: needs.accelerator,
        lambda needs: "yes" if needs.accelerator else "CPU is enough",
        "real-time", None, _SERVERLESS,
    ),
    Rule(
        "More than 6 GB of memory?",
        lambda needs: needs.memory_gib > SERVERLESS_GIB,
        lambda needs: f"{needs.memory_gib:g} GiB",
        "real-time", None, _SERVERLESS_CONFIG,
    ),
    Rule(
        "More than 4 MB in a request or response?",
        lambda needs: needs.payload_mib > SERVERLESS_MIB,
        lambda needs: f"{needs.payload_mib:g} MiB",
        "real-time", None, _SERVERLESS_INVOKE,
    ),
    Rule(
        "More than 200 requests at the same time?",
        lambda needs: needs.in_flight > SERVERLESS_CONCURRENCY,
        lambda needs: f"{needs.in_flight:.1f} at the peak",
        "real-time", None, _SERVERLESS_CONFIG,
    ),
    Rule(
        "Is a cold start slower than the P99 allows?",
        lambda needs: 1000 * needs.cold_start_seconds > needs.p99_ms,
        lambda needs: f"{1000 * needs.cold_start_seconds:,.0f} ms against {needs.p99_ms:,.0f} ms",
        "real-time", None, _SERVERLESS,
    ),
    Rule(
        "Does serverless cost more than instances?",
        lambda needs: needs.serverless_usd >= needs.instances_usd,
        lambda needs: f"${needs.serverless_usd:.3g} per hour against ${needs.instances_usd:.3g}",
        "real-time", "serverless", _PRICE,
    ),
)  # fmt: skip
"""The decision tree, evaluated from the top."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule that was evaluated, its answer, and the figures behind it."""

    rule: Rule
    answer: bool
    facts: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A hosting option, and the rules evaluated on the way to it; the last one decided."""

    hosting: Hosting
    asked: tuple[Asked, ...]

    def why_not(self, hosting: Hosting, rules: Sequence[Rule] = RULES) -> str:
        """Say why another hosting option was not chosen: the answer that ruled it out, or that decided earlier."""
        away = [asked for asked in self.asked if hosting in (asked.rule.yes, asked.rule.no)]
        if away:
            # The first answer says what the option is for; the last, how far it got.
            shown = [away[0]] if len(away) == 1 else [away[0], away[-1]]
            return "; ".join(f"{each.rule.question} {'yes' if each.answer else 'no'}: {each.facts}" for each in shown)
        last = self.asked[-1]
        number = 1 + next(index for index, rule in enumerate(rules) if rule is last.rule)
        return f"rule {number} decides first: {last.facts}"


def decide(needs: Needs, rules: Sequence[Rule] = RULES) -> Decision:
    """Evaluate the rules in order until one leads to a hosting option; raises ValueError if none does."""
    asked: list[Asked] = []
    for rule in rules:
        answer = rule.holds(needs)
        asked.append(Asked(rule, answer, rule.facts(needs)))
        hosting = rule.yes if answer else rule.no
        if hosting is not None:
            return Decision(hosting, tuple(asked))
    raise ValueError(
        f"none of {len(rules)} rules decides: the last one must lead to a hosting option for yes and for no"
    )


def serverless_usd_per_hour(rate: float, mean_seconds: float, memory_gib: float) -> float:
    """Return the cost of serverless inference in US dollars per hour, without data transfer.

    rate: average requests per second, including idle times.
    memory_gib: memory is billed in whole GB, 1 to 6; a larger value is priced as if it were available.
    """
    billed = max(1.0, float(-(-memory_gib // 1)))
    return rate * mean_seconds * billed * SERVERLESS_USD_PER_GB_SECOND * 3600
