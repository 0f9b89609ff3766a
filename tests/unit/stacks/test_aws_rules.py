"""Rules that AWS has and a schema lacks: names, tags and schedules are refused when the deployment file is read."""

from pathlib import Path

import pytest

from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.schedules import schedule_problem


def loaded(
    folder: Path, *, endpoint: str = "e", variant: str = "A", also: str = "", top: str = "", scaling: str = ""
) -> Deployment:
    variants = f"{{{variant}: {{precision: int8, instance_type: ml.c6i.2xlarge}}}}"
    keys = "".join(f"      {key}: {{model: m, variants: {variants}{scaling}}}\n" for key in (endpoint, also) if key)
    path = folder / "mine.yaml"
    path.write_text(
        f"{top or 'environment: mine'}\nworkloads:\n  qa:\n    kind: encoder\n"
        f"    models: {{m: {{source: {{kind: demo}}}}}}\n    endpoints:\n{keys}"
    )
    return Deployment.load(path)


@pytest.mark.parametrize("key", ["blue_", "a__b", "_a", "1a", "a" * 32])
def test_a_key_whose_name_sagemaker_would_refuse_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DeploymentError, match="should"):
        loaded(tmp_path, endpoint=key)


@pytest.mark.parametrize("name", ["A-", "-A", "a_b", "A" * 64])
def test_a_variant_name_that_sagemaker_would_refuse_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeploymentError, match="match pattern"):
        loaded(tmp_path, variant=name)


@pytest.mark.parametrize("environment", ["mine-", "a--b", "a", "-a", "A1", "a" * 22])
def test_an_environment_that_cannot_begin_names_is_refused(tmp_path: Path, environment: str) -> None:
    with pytest.raises(DeploymentError, match="environment"):
        loaded(tmp_path, top=f"environment: {environment}")


def test_keys_that_would_give_two_resources_one_name_are_refused_with_both(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"endpoints.a_1 and endpoints.a1 would give their resources one name"):
        loaded(tmp_path, endpoint="a_1", also="a1")


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("environment: x", "the tag 'environment' has the deployment's name"),
        ("'aws:x': y", "begins with aws:"),
        ("'a;b': c", "the tag 'a;b' has a name that AWS refuses: use 1 to 128"),
        (f"a: '{'x' * 257}'", "has a value that AWS refuses: use 0 to 256"),
        ("'': a", "has a name that AWS refuses"),
        (", ".join(f"t{n}: a" for n in range(46)), "there are 46 tags"),
    ],
)
def test_tags_that_aws_refuses_are_refused(tmp_path: Path, tag: str, message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        loaded(tmp_path, top=f"environment: mine\ntags: {{{tag}}}")


@pytest.mark.parametrize("tag", ["Team: ml platform", "'cost-center': '0042'", "a: ''", "'straße': grün"])
def test_tags_that_aws_takes_are_taken(tmp_path: Path, tag: str) -> None:
    assert loaded(tmp_path, top=f"environment: mine\ntags: {{{tag}}}").tags


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("cron(15 4 * * TUE-SAT *)", "exactly one of day of the month and day of the week must be '?'"),
        ("cron(15 4 ? * ? *)", "exactly one of"),
        ("cron(15 4 * * ?)", "it has 5 fields and needs six"),
        ("cron(0 8 * * ? * *)", "it has 7 fields"),
        ("cron(0  8 * * ? *)", "with one space between"),
        ("cron(0 8 ? * 0 *)", "its day of the week '0' must be 1 to 7 or SUN to SAT"),
        ("cron(0 8 ? * MO *)", "its day of the week 'MO'"),
        ("cron(60 8 * * ? *)", "its minute '60' must be 0 to 59"),
        ("cron(0 24 * * ? *)", "its hour '24'"),
        ("cron(0 8 32 * ? *)", "its day of the month '32'"),
        ("cron(0 8 * 13 ? *)", "its month '13' must be 1 to 12 or JAN to DEC"),
        ("cron(0/0 8 * * ? *)", "its minute '0/0'"),
        ("cron(5- 8 * * ? *)", "its minute '5-'"),
        ("cron(? 8 * * ? *)", "its minute is '\\?'"),
        ("cron(0 8 * * ? 1969)", "its year '1969' must be 1970 to 2199"),
        ("rate(1 minutes)", "write rate\\(1 minute\\)"),
        ("rate(5 minute)", "write rate\\(5 minutes\\)"),
        ("rate(0 hours)", "at least 1"),
        ("rate(5 weeks)", "write cron"),
        ("at(tomorrow)", "write at"),
        ("at(2027-1-31T22:00:00)", "write at"),
        ("at(2027-02-30T22:00:00)", "write at"),
        ("every day", "write cron"),
    ],
)
def test_a_schedule_that_application_auto_scaling_refuses_is_refused_with_its_rule(
    tmp_path: Path, schedule: str, problem: str
) -> None:
    scaling = (
        ", scaling: {max_capacity: 4, target_invocations_per_instance: 100, schedules: "
        f"{{n: {{schedule: {schedule!r}, min_capacity: 1, max_capacity: 2}}}}}}"
    )
    with pytest.raises(DeploymentError, match=f"schedules.n.schedule: .*{problem}"):
        loaded(tmp_path, scaling=scaling)


@pytest.mark.parametrize(
    "schedule",
    [
        "cron(15 4 ? * TUE-SAT *)", "cron(0 8 * * ? *)", "cron(0/15 8,20 1-15 JAN-MAR ? 2027-2030)",
        "cron(0 8 ? * MON#2 *)", "cron(0 8 L * ? *)", "cron(0 8 15W * ? *)", "cron(0 8 ? * 6L *)",
        "cron(*/5 * ? * 2 *)", "rate(1 hour)", "rate(30 minutes)", "rate(2 days)", "at(2027-01-31T22:00:00)",
    ],
)  # fmt: skip
def test_schedules_from_awss_guide_are_taken(schedule: str) -> None:
    assert schedule_problem(schedule) is None


@pytest.mark.parametrize(
    ("zone", "hint"),
    [("CEST", "such as"), ("europe/berlin", "such as Europe/Berlin"), ("+02:00", "write an IANA name")],
)
def test_a_time_zone_without_an_iana_name_is_refused(tmp_path: Path, zone: str, hint: str) -> None:
    scaling = (
        ", scaling: {max_capacity: 4, target_invocations_per_instance: 100, schedules: "
        f"{{n: {{schedule: 'rate(1 hour)', timezone: {zone!r}, min_capacity: 1, max_capacity: 2}}}}}}"
    )
    with pytest.raises(DeploymentError, match=hint):
        loaded(tmp_path, scaling=scaling)
