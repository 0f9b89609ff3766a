"""`inference load-test` finds what a deployment serves, and refuses what cannot be loaded before anything is sent."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app
from load_tests.kinds.base import Reached, Served
from load_tests.plan import HttpTarget, SageMakerTarget
from load_tests.targets import deployed_workload, served
from stacks.settings.deployment import Deployment

DEV, PUBLISHED = Deployment.named("dev"), Deployment.named("published")
HOSTS = ("http://127.0.0.1:1", "http://127.0.0.1:2")


def found_in(deployment: Deployment, workload: str, key: str | None, reached: Reached | None = None) -> list[Served]:
    return served(deployed_workload(deployment, workload), key, reached or Reached())


def test_every_variant_of_every_endpoint_is_loaded_in_turn() -> None:
    found = found_in(DEV, "encoder", None)
    assert [(each.key, each.variant) for each in found] == [
        ("demo", "FP32"),
        ("demo", "INT8"),
        ("demo", "C5-FP32"),
        ("base_shape", "FP32"),
        ("base_shape", "INT8"),
    ]
    assert found[0].target == SageMakerTarget(endpoint="dev-encoder-demo", variant="FP32")
    assert found[2].instance_type == "ml.c5.2xlarge"


def test_one_endpoint_is_loaded_where_it_is_named() -> None:
    (found,) = found_in(DEV, "tabular", "large")
    assert (found.endpoint, found.instance_type) == ("dev-tabular-large", "ml.c5.2xlarge")


def test_cores_and_models_of_given_servers_are_asked_one_by_one() -> None:
    (found,) = found_in(DEV, "neuron_encoder", "virtual", Reached(hosts=HOSTS))
    assert isinstance(found.target, HttpTarget)
    assert found.target.urls == HOSTS
    assert found.target.paths == (
        "/predictions_neuron_core_0/model_0",
        "/predictions_neuron_core_0/model_1",
        "/predictions_neuron_core_1/model_0",
        "/predictions_neuron_core_1/model_1",
    )


def test_an_endpoint_on_aws_is_asked_through_sagemaker_which_knows_no_cores() -> None:
    (found,) = found_in(DEV, "neuron_encoder", "virtual")
    assert found.target == SageMakerTarget(endpoint="dev-neuron-encoder-virtual", variant="AllTraffic")
    (asked,) = found_in(DEV, "neuron_encoder", "virtual", Reached(hosts=HOSTS, by_path=False))
    assert asked.target == found.target


def test_a_fleet_is_asked_at_the_load_balancer_that_is_given() -> None:
    (found,) = found_in(PUBLISHED, "neuron_encoder", "inf2_fleet", Reached(hosts=HOSTS[:1]))
    assert isinstance(found.target, HttpTarget)
    # An inf2.xlarge has two NeuronCores.
    assert len(found.target.paths) == 4
    assert found.variant is None


def refused(*arguments: str, state: Path) -> str:
    done = CliRunner().invoke(app, ["load-test", *arguments, "--state", str(state)])
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["bert_int4"], "workload is 'bert_int4': choose from encoder, tabular, saved_model, neuron_encoder"),
        (["tabular", "--endpoint", "huge"], "endpoint is 'huge': choose from small, large"),
        (["encoder", "--variant", "INT4"], "variant is 'INT4': choose from FP32, INT8, C5-FP32"),
        (["tabular", "--profile", "slow"], "profile is 'slow': choose from quick, churn, unet, bert"),
        (["tabular", "--client", "curl"], "client is 'curl': choose boto3 or fast"),
        (["tabular", "--gate", "speed>=1"], "gate is 'speed>=1': give pPERCENT<=MS"),
        (["tabular", "--shape", "stairs"], "shape is 'stairs': give constant"),
        (["tabular", "--users", "3", "--rate", "5"], "give users for a closed loop, rate for an open one"),
        (["tabular", "--rate", "5", "--requests", "10"], "requests applies to a closed loop only"),
        (["tabular", "--users", "3", "--workers", "5"], "there are at most 3 users"),
        (["tabular", "--host", "http://127.0.0.1:1"], "workloads of kind tabular are reached by InvokeEndpoint only"),
        (["tabular", "--trace", "there/is/none.csv"], "none.csv"),
        (["tabular", "--deployment", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_what_there_is(arguments: list[str], part: str, tmp_path: Path) -> None:
    assert part in refused(*arguments, state=tmp_path)


def test_a_trace_has_its_own_levels(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("seconds,rate\n0,5\n")
    assert "a trace has its own levels" in refused("tabular", "--trace", str(trace), "--users", "3", state=tmp_path)
