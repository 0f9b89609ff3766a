"""Named load test profiles: the published runs with their parameters, and a short one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """Options that a profile name sets; options on the command line take precedence.

    users: None means one user for each place that requests are sent to.
    seconds: measured time, after `warm_up` seconds.
    requests: number of requests that ends the test early.
    pause: range in seconds, from which the pause between a user's response and its next request is drawn uniformly.
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
    # Each user pauses for up to two seconds after a response, so 300 users send about 300 requests per second.
    "churn": Profile(
        "the multi-model demo: 300 users, adding 5 per second, 15 minutes, 2 workers",
        users=300,
        spawn_rate=5,
        warm_up=60,
        seconds=840,
        workers=2,
        pause=(0.0, 2.0),
    ),
    # The published run gives no spawn rate. Locust's default of one user per second had started a quarter of the 240
    # users by the end of the run, so the run measured its own ramp. Here all users start before the measurement.
    "unet": Profile(
        "the U-Net demo: 240 users on 60 workers, one minute",
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
    """Return the profile with that name; raises ValueError."""
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}: choose from {', '.join(PROFILES)}")
    return PROFILES[name]
