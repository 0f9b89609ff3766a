"""Named load tests: the published runs with their numbers, and a short one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """What a name stands for; options of the command line come first.

    users: None for one for each place that requests are sent to. seconds: measured, after warm_up. requests: at which
    it ends before. pause: seconds between a user's answer and its next request, evenly drawn from this range.
    """

    about: str
    users: int | None
    spawn_rate: float
    warm_up: float
    seconds: float
    workers: int
    requests: int | None = None
    pause: tuple[float, float] = (0.0, 0.0)


PROFILES = {
    "quick": Profile("ten seconds with four users", users=4, spawn_rate=10, warm_up=2, seconds=10, workers=1),
    # Its users rest up to two seconds after an answer, so that 300 send some 300 requests a second.
    "churn": Profile(
        "the multi-model demo: 300 users, 5 more a second, 15 minutes, 2 workers",
        users=300,
        spawn_rate=5,
        warm_up=60,
        seconds=840,
        workers=2,
        pause=(0.0, 2.0),
    ),
    # The published run gives no spawn rate, so that Locust's own of one user a second had a quarter of its 240 users
    # there at its end, and what it measured was its own ramp. Here all are there before it measures.
    "unet": Profile(
        "the U-Net demo: 240 users on 60 workers, a minute",
        users=240,
        spawn_rate=24,
        warm_up=15,
        seconds=60,
        workers=60,
    ),
    "bert": Profile(
        "10,000 queries, one user for each copy of the model on each NeuronCore, or one alone",
        users=None,
        spawn_rate=10,
        warm_up=5,
        seconds=3600,
        workers=1,
        requests=10_000,
    ),
}


def profile(name: str) -> Profile:
    """The profile of that name; raises ValueError."""
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}: choose from {', '.join(PROFILES)}")
    return PROFILES[name]
