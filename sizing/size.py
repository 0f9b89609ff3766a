"""`inference size WORKLOAD --rate ... --p99 ...`: hosting, instance, count, autoscaling target, and cost."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sizing.costs import Comparison, Fleet, compare, models_from_which_sharing_pays, pays_from
from sizing.hosting import HOSTINGS, SERVERLESS_CONCURRENCY, Decision, Needs, decide, serverless_usd_per_hour
from sizing.prices import PriceError, price, priced_types
from sizing.profiles import ProfileError, ServiceProfile, of_workload, read_profiles
from sizing.recommend import SAFETY, Demand, RecommendError, Sized, Verdict, recommend
from sizing.simulation.endpoint import Routing

_SPARE = 2
"""Most instances, or requests at a time, over those of the peak, where settings are suggested."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a workload without measuring: as the --options of those names."""

    payload_mib: float
    memory_gib: float
    models: int = 1
    accelerator: bool = False


WORKLOADS = {
    "encoder": Facts(payload_mib=0.01, memory_gib=1.0),
    "saved_model": Facts(payload_mib=0.6, memory_gib=1.0),
    "neuron_encoder": Facts(payload_mib=0.01, memory_gib=4.0, accelerator=True),
    "tabular": Facts(payload_mib=0.001, memory_gib=0.5, models=51),
}
"""Of this project's workloads: an image as npy for U-Net; resident memory of the containers, rounded up."""


class SizeError(ValueError):
    """The options cannot be; the message names the option, the value and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Everything that was found; the first verdict is the chosen one."""

    workload: str
    demand: Demand
    verdicts: tuple[Verdict, ...]
    needs: Needs
    decision: Decision
    comparisons: tuple[Comparison, ...]
    break_evens: tuple[str, ...]

    @property
    def chosen(self) -> Sized:
        """The recommendation."""
        sized = self.verdicts[0].sized
        assert sized is not None
        return sized

    @property
    def settings(self) -> dict[str, Any]:
        """What to set: of instances the scaling as a deployment file takes it, of serverless its configuration."""
        if self.decision.hosting == "serverless":
            busy = math.ceil(_SPARE * self.needs.in_flight)
            return {
                "MemorySizeInMB": 1024 * max(1, math.ceil(self.needs.memory_gib)),
                "MaxConcurrency": max(1, min(SERVERLESS_CONCURRENCY, busy)),
            }
        if self.decision.hosting in ("asynchronous", "batch"):
            return {"instance_count": self.chosen.instances}
        return {
            "scaling": {
                "min_capacity": self.demand.min_instances,
                "max_capacity": _SPARE * self.chosen.instances,
                "target_invocations_per_instance": round(self.chosen.target, 1),
            }
        }

    @property
    def conclusion(self) -> str:
        """One sentence."""
        demand, chosen, needs = self.demand, self.chosen, self.needs
        asked = f"{self.workload}, {demand.rate:g} requests/s, P99 within {demand.p99_ms:g} ms: {self.decision.hosting}"
        if self.decision.hosting == "serverless":
            cost = f"{needs.serverless_usd:.3g} $ an hour on average, instances {needs.instances_usd:.3f}"
            return f"{asked} with {chosen.profile.variant}; {cost}"
        on = f"{chosen.instances} x {chosen.profile.instance_type} with {chosen.profile.variant}"
        cost = f"{chosen.usd_per_hour:.3f} $ an hour, {chosen.usd_per_million:.2f} $ per million"
        return f"{asked}, {on}; predicted P99 {chosen.p99_ms:,.1f} ms, {cost}"

    def summary(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "workload": self.workload,
            "demand": asdict(self.demand),
            "hosting": self.decision.hosting,
            "rules": [
                {"question": each.rule.question, "answer": each.answer, "facts": each.facts, "source": each.rule.source}
                for each in self.decision.asked
            ],
            "settings": self.settings,
            "conclusion": self.conclusion,
            "candidates": [_candidate(each) for each in self.verdicts],
            "comparison": [asdict(each) for each in self.comparisons],
            "break_evens": list(self.break_evens),
        }


def size(
    workload: str,
    *,
    rate: float,
    p99: float,
    measured: Path | None,
    facts: Facts,
    region: str = "us-east-1",
    safety: float = SAFETY,
    min_instances: int = 1,
    routing: Routing = "random",
    idle_share: float = 0.0,
    deadline_seconds: float | None = None,
    offline: bool = False,
    cold_start_seconds: float = 10.0,
    unfit: Callable[[ServiceProfile], str | None] = lambda _: None,
) -> Sizing:
    """What a workload needs; raises SizeError, ProfileError, PriceError or RecommendError."""
    if not 0 <= idle_share < 1:
        raise SizeError(f"idle_share is {idle_share}: give a share from 0 to below 1")
    demand = Demand(rate=rate, p99_ms=p99, safety=safety, min_instances=min_instances, routing=routing)
    profiles = of_workload(read_profiles(measured) if measured else read_profiles(), workload)
    prices = {kind: price(region, kind) for kind in priced_types(region)}
    verdicts = recommend(profiles, prices, demand, unfit)
    chosen = verdicts[0].sized
    assert chosen is not None
    service = chosen.profile.service
    average = rate * (1 - idle_share)
    needs = Needs(
        payload_mib=facts.payload_mib,
        seconds=service.quantile(0.99) / 1000,
        memory_gib=facts.memory_gib,
        p99_ms=p99,
        in_flight=rate * service.mean_ms / 1000,
        instances_usd=min_instances * chosen.price.usd_per_hour * idle_share + chosen.usd_per_hour * (1 - idle_share),
        serverless_usd=serverless_usd_per_hour(average, service.mean_ms / 1000, facts.memory_gib),
        models=facts.models,
        idle_share=idle_share,
        accelerator=facts.accelerator,
        offline=offline,
        deadline_seconds=deadline_seconds,
        cold_start_seconds=cold_start_seconds,
    )
    priced = [(each, prices[each.instance_type].usd_per_hour) for each in profiles if each.instance_type in prices]
    return Sizing(
        workload=workload,
        demand=demand,
        verdicts=verdicts,
        needs=needs,
        decision=decide(needs),
        comparisons=compare(priced, utilisation=1.0),
        break_evens=tuple(_break_evens(chosen, verdicts, demand, facts)),
    )


def show(sizing: Sizing, console: Console) -> None:
    """Prints the tables and the recommendation."""
    console.print(_candidates(sizing))
    console.print(_comparison(sizing.comparisons))
    console.print(_rules(sizing.decision))
    others = [hosting for hosting in HOSTINGS if hosting != sizing.decision.hosting]
    table = Table(title="hostings")
    for column in ("hosting", "verdict", "reason"):
        table.add_column(column)
    last = sizing.decision.asked[-1]
    decided = f"{last.rule.question} {'yes' if last.answer else 'no'}: {last.facts}"
    table.add_row(sizing.decision.hosting, Text("chosen", "green"), decided)
    for hosting in others:
        table.add_row(hosting, "lost", sizing.decision.why_not(hosting))
    console.print(table)
    for line in sizing.break_evens:
        console.print(line, highlight=False)
    profile = sizing.chosen.profile
    console.print(sizing.conclusion, highlight=False)
    if profile.place != "aws":
        told = f"These figures are {profile.place}: {profile.source}. Measure on AWS before you rely on them."
        console.print(told, highlight=False)
    console.print(yaml.safe_dump(sizing.settings, sort_keys=False).rstrip(), highlight=False)


def write(sizing: Sizing, folder: Path) -> None:
    """Writes size.json, and the decision tree as hosting.png where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "size.json").write_text(json.dumps(sizing.summary(), indent=1) + "\n")
    try:
        from sizing.hosting_picture import draw
    except ImportError:
        print("no picture: install the extra `sizing`, which brings matplotlib", file=sys.stderr)
    else:
        draw(sizing.decision, folder / "hosting.png")
    print(f"the figures and the picture are in {folder}", file=sys.stderr)


def command(workload: str) -> Callable[..., None]:
    """The command of a workload."""
    known = WORKLOADS[workload]

    def sized(
        rate: Annotated[float, typer.Option(help="requests a second at the peak")],
        p99: Annotated[float, typer.Option(help="ms that 99 of 100 answers must keep")],
        measured: Annotated[
            Path | None, typer.Option(help="JSON file of profiles instead of the recorded ones")
        ] = None,
        safety: Annotated[float, typer.Option(help="share of the maximum rate to aim at")] = SAFETY,
        min_instances: Annotated[int, typer.Option(help="fewest instances")] = 1,
        routing: Annotated[str, typer.Option(help="random, or least_outstanding")] = "random",
        idle_share: Annotated[float, typer.Option(help="share of the time without a request")] = 0.0,
        deadline_seconds: Annotated[
            float | None, typer.Option(help="until when an answer must be there, where no caller waits for it")
        ] = None,
        offline: Annotated[bool, typer.Option("--offline", help="all data is there, and nobody waits")] = False,
        payload_mib: Annotated[float, typer.Option(help="of a request or an answer")] = known.payload_mib,
        memory_gib: Annotated[float, typer.Option(help="of the container with its model")] = known.memory_gib,
        models: Annotated[int, typer.Option(min=1, help="models that could share a container")] = known.models,
        cold_start_seconds: Annotated[float, typer.Option(help="of a serverless container, assumed")] = 10.0,
        region: Annotated[str, typer.Option(help="region of the prices")] = "us-east-1",
        output: Annotated[Path, typer.Option(help="folder of the figures and the picture")] = Path("build/size"),
    ) -> None:
        try:
            found = size(
                workload,
                rate=rate,
                p99=p99,
                measured=measured,
                facts=replace(known, payload_mib=payload_mib, memory_gib=memory_gib, models=models),
                region=region,
                safety=safety,
                min_instances=min_instances,
                routing=routing_of(routing),
                idle_share=idle_share,
                deadline_seconds=deadline_seconds,
                offline=offline,
                cold_start_seconds=cold_start_seconds,
            )
        except (SizeError, ProfileError, PriceError, RecommendError) as error:
            fail(str(error))
        show(found, Console(width=None if sys.stdout.isatty() else 160, markup=False))
        write(found, output / workload)

    sized.__doc__ = (
        f"Recommends hosting, instance type, count and scaling of {workload}, and says why every other candidate lost."
    )
    return sized


def routing_of(name: str) -> Routing:
    """A routing by its name; raises SizeError."""
    if name == "random":
        return "random"
    if name == "least_outstanding":
        return "least_outstanding"
    raise SizeError(f"routing is {name!r}: choose random or least_outstanding")


def fail(message: str) -> NoReturn:
    """Ends a command with one line on stderr and exit code 1."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)


def _break_evens(chosen: Sized, verdicts: Sequence[Verdict], demand: Demand, facts: Facts) -> list[str]:
    lines = []
    for verdict in verdicts[1:]:
        other = verdict.sized
        if other is None or other.profile.variant == chosen.profile.variant:
            continue
        if other.profile.instance_type != chosen.profile.instance_type or other.profile.place != chosen.profile.place:
            continue
        pays = pays_from(_fleet(chosen, demand), _fleet(other, demand))
        names = f"{chosen.profile.variant} over {other.profile.variant} on {chosen.profile.instance_type}"
        told = "never, by the rate alone" if pays is None else f"from {pays:,.1f} requests/s on"
        lines.append(f"{names} pays {told}, with a minimum of {demand.min_instances}")
    if facts.models > 1:
        fleet = _fleet(chosen, demand)
        apart = facts.models * fleet.usd(demand.rate / facts.models)
        fewest = models_from_which_sharing_pays(fleet, fleet, demand.rate)
        told = "never pays" if fewest is None else f"pays from {fewest} models on"
        lines.append(
            f"{facts.models} models on one multi-model endpoint cost {fleet.usd(demand.rate):.3f} $ an hour, on "
            f"endpoints of their own {apart:.3f}; sharing {told}"
        )
    return lines


def _fleet(sized: Sized, demand: Demand) -> Fleet:
    return Fleet(
        usd_per_hour=sized.price.usd_per_hour,
        max_rate=sized.profile.max_rate_per_instance,
        safety=demand.safety,
        min_instances=demand.min_instances,
    )


def _candidate(verdict: Verdict) -> dict[str, Any]:
    profile, sized = verdict.profile, verdict.sized
    found: dict[str, Any] = {
        "variant": profile.variant,
        "instance_type": profile.instance_type,
        "place": profile.place,
        "source": profile.source,
        "date": profile.date,
        "samples": profile.samples,
        "chosen": verdict.chosen,
        "reason": verdict.reason,
    }
    if sized is not None:
        names = ("instances", "p50_ms", "p99_ms", "target", "utilisation", "usd_per_hour", "usd_per_million")
        found |= {name: getattr(sized, name) for name in names}
    return found


def _candidates(sizing: Sizing) -> Table:
    demand = sizing.demand
    table = Table(title=f"candidates for {demand.rate:g} requests/s within {demand.p99_ms:g} ms, {demand.routing}")
    for column in ("candidate", "verdict", "reason"):
        table.add_column(column)
    for column in ("instances", "P50 ms", "P99 ms", "target a minute", "used", "$ an hour", "$ per million"):
        table.add_column(column, justify="right")
    for verdict in sizing.verdicts:
        found = verdict.sized
        figures = ["-"] * 7 if found is None else [
            str(found.instances), f"{found.p50_ms:,.1f}", f"{found.p99_ms:,.1f}", f"{found.target:,.0f}",
            f"{found.utilisation:.0%}", f"{found.usd_per_hour:.3f}", f"{found.usd_per_million:.2f}",
        ]  # fmt: skip
        table.add_row(
            verdict.profile.name, Text("chosen", "green") if verdict.chosen else "lost", verdict.reason, *figures
        )
    return table


def _comparison(rows: Sequence[Comparison]) -> Table:
    table = Table(title="instances that are always busy, as published tables compare them")
    for column in ("variant", "instance", "place"):
        table.add_column(column)
    for column in ("P50 ms", "P90 ms", "queries/s", "$ per million", "performance per $"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.variant, row.instance_type, row.place, f"{row.p50_ms:,.2f}", f"{row.p90_ms:,.2f}",
            f"{row.queries_per_second:,.1f}", f"{row.usd_per_million:.2f}", f"{row.relative:.2f}",
        )  # fmt: skip
    return table


def _rules(decision: Decision) -> Table:
    table = Table(title="which hosting: the rules in order, up to the one that decides")
    for column in ("rule", "answer", "figures", "leads to", "source"):
        table.add_column(column)
    for number, asked in enumerate(decision.asked, 1):
        leads = asked.rule.yes if asked.answer else asked.rule.no
        answer = "yes" if asked.answer else "no"
        table.add_row(f"{number}. {asked.rule.question}", answer, asked.facts, leads or "the next", asked.rule.source)
    return table
