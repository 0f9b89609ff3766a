"""`inference load-test` finds what a deployment serves, and refuses what cannot be loaded before anything is sent."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from load_tests.plan import HttpTarget, SageMakerTarget
from local_aws.load_targets import served
from local_aws.main import app
from stacks.settings import Deployment

DEV, PUBLISHED = Deployment.named("dev"), Deployment.named("published")
HOSTS = ("http://127.0.0.1:1", "http://127.0.0.1:2")


def test_every_variant_of_every_endpoint_is_loaded_in_turn() -> None:
    found = served(DEV, "bert_int8", None, account=None)
    assert [(each.key, each.variant) for each in found] == [
        ("demo", "FP32"),
        ("demo", "INT8"),
        ("demo", "C5-FP32"),
        ("base_shape", "FP32"),
        ("base_shape", "INT8"),
    ]
    assert found[0].target == SageMakerTarget(endpoint="dev-bert-int8-demo", variant="FP32")
    assert found[2].instance_type == "ml.c5.2xlarge"


def test_one_endpoint_is_loaded_where_it_is_named() -> None:
    (found,) = served(DEV, "churn_mme", "large", account=None)
    assert (found.endpoint, found.instance_type) == ("dev-churn-mme-large", "ml.c5.2xlarge")


def test_cores_and_models_of_given_servers_are_asked_one_by_one() -> None:
    (found,) = served(DEV, "bert_neuron", "virtual", account=None, hosts=HOSTS)
    assert isinstance(found.target, HttpTarget)
    assert found.target.urls == HOSTS
    assert found.target.paths == (
        "/predictions_neuron_core_0/model_0",
        "/predictions_neuron_core_0/model_1",
        "/predictions_neuron_core_1/model_0",
        "/predictions_neuron_core_1/model_1",
    )


def test_an_endpoint_on_aws_is_asked_through_sagemaker_which_knows_no_cores() -> None:
    (found,) = served(DEV, "bert_neuron", "virtual", account=None)
    assert found.target == SageMakerTarget(endpoint="dev-bert-neuron-virtual", variant="AllTraffic")
    (asked,) = served(DEV, "bert_neuron", "virtual", account=None, hosts=HOSTS, pairs=False)
    assert asked.target == found.target


def test_a_fleet_is_asked_at_the_load_balancer_that_is_given() -> None:
    (found,) = served(PUBLISHED, "bert_neuron", "inf2_fleet", account=None, hosts=HOSTS[:1])
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
        (["bert_int4"], "workload is 'bert_int4': choose from bert_int8, churn_mme, unet_tfs, bert_neuron"),
        (["churn_mme", "--endpoint", "huge"], "endpoint is 'huge': choose from small, large"),
        (["bert_int8", "--variant", "INT4"], "variant is 'INT4': choose from FP32, INT8, C5-FP32"),
        (["churn_mme", "--profile", "slow"], "profile is 'slow': choose from quick, churn, unet, bert"),
        (["churn_mme", "--client", "curl"], "client is 'curl': choose boto3 or fast"),
        (["churn_mme", "--gate", "speed>=1"], "gate is 'speed>=1': give pPERCENT<=MS"),
        (["churn_mme", "--shape", "stairs"], "shape is 'stairs': give constant"),
        (["churn_mme", "--users", "3", "--rate", "5"], "give users for a closed loop, rate for an open one"),
        (["churn_mme", "--rate", "5", "--requests", "10"], "requests ends a closed loop"),
        (["churn_mme", "--users", "3", "--workers", "5"], "there are 3 users at the most"),
        (["churn_mme", "--host", "http://127.0.0.1:1"], "only bert_neuron is asked on servers of its own"),
        (["churn_mme", "--trace", "there/is/none.csv"], "none.csv"),
        (["churn_mme", "--deployment", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_what_there_is(arguments: list[str], part: str, tmp_path: Path) -> None:
    assert part in refused(*arguments, state=tmp_path)


def test_a_trace_has_its_own_levels(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("seconds,rate\n0,5\n")
    assert "its own levels are sent" in refused("churn_mme", "--trace", str(trace), "--users", "3", state=tmp_path)
