"""Only builds write what endpoints load, only this account's services take on a role, and a swap is noticed."""

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stacks.constructs.artifact_writers import writer_path
from stacks.settings.deployment import DEPLOYMENTS as FOLDER
from stacks.settings.deployment import Deployment, DeploymentError
from tests.infrastructure.conftest import Assembly

Synthesize = Callable[..., Assembly]
DEPLOYMENTS = ("dev", "prod", "published")
WRITES = {"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"}


def plain(value: Any) -> str:
    """A value with its references as names in angle brackets."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        return "".join(plain(part) for part in value["Fn::Join"][1])
    if "Fn::GetAtt" in value:
        return f"<{'.'.join(value['Fn::GetAtt'])}>"
    return f"<{value['Ref']}>" if "Ref" in value else json.dumps(value)


def denials(assembly: Assembly) -> list[dict[str, Any]]:
    return [
        statement
        for policy in assembly.resources("AWS::S3::BucketPolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if str(statement.get("Sid", "")).startswith("OnlyBuildsWrite")
    ]


def denied(assembly: Assembly, key: str, principal: str) -> bool:
    """Whether the bucket denies a principal to write a key."""
    for statement in denials(assembly):
        patterns = [plain(resource).partition("/")[2] for resource in statement["Resource"]]
        writers = [plain(arn) for arn in statement["Condition"]["ArnNotLike"]["aws:PrincipalArn"]]
        covered = any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
        if covered and not any(fnmatch.fnmatchcase(principal, writer) for writer in writers):
            return True
    return False


def role(path: str, name: str = "Dev-ModelBuild-Role-ABC") -> str:
    return f"arn:<AWS::Partition>:iam::<AWS::AccountId>:role{path}{name}"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_workload_is_written_by_its_own_builds_and_by_what_empties_it(
    synthesize: Synthesize, deployment: str
) -> None:
    assembly = synthesize(deployment)
    settings = Deployment.load(FOLDER / f"{deployment}.yaml")
    for workload in settings.workloads:
        own = role(writer_path(settings.environment, workload))
        for key in (f"{workload}/demo/0123/summary.json", f"cache/{workload}", f"cache/{workload}/environment"):
            assert not denied(assembly, key, own)
            assert not denied(assembly, key, role(writer_path(settings.environment, "emptying")))
            for other in ("Admin", "sagemaker-inference-stacks/other/role"):
                assert denied(assembly, key, role("/", other)), f"{other} may write {key}"
            for another in settings.workloads:
                if another != workload:
                    assert denied(assembly, key, role(writer_path(settings.environment, another)))
    assert all(set(statement["Action"]) >= WRITES for statement in denials(assembly))
    assert all(statement["Principal"] == {"AWS": "*"} for statement in denials(assembly))


def test_an_archive_is_replaced_by_nobody_but_a_build(synthesize: Synthesize) -> None:
    for key in ("encoder/demo/0123/int8/model.tar.gz", "saved_model/unet/0123/openvino/model.tar.gz"):
        assert denied(synthesize("dev"), key, role("/", "Admin"))


def test_models_of_a_multi_model_endpoint_are_uploaded_by_whom_iam_allows(synthesize: Synthesize) -> None:
    assert not denied(synthesize("dev"), "tabular/by_state/0123/models/churn-xgb-XX.tar.gz", role("/", "Publisher"))


def test_or_by_the_uploaders_that_a_deployment_names_and_by_nobody_else(synthesize: Synthesize, tmp_path: Path) -> None:
    text = (FOLDER / "prod-local.yaml").read_text()
    uploader = "arn:aws:iam::123456789012:role/model-publisher"
    path = tmp_path / "uploaders.yaml"
    path.write_text(text.replace("  tabular:\n", f"  tabular:\n    model_uploaders: [{uploader}]\n", 1))
    assembly = synthesize(str(path))
    key = "tabular/by_state/0123/models/churn-xgb-XX.tar.gz"
    assert not denied(assembly, key, uploader)
    assert denied(assembly, key, "arn:aws:iam::123456789012:role/Admin")


@pytest.mark.parametrize("uploader", ["*", "arn:aws:iam::123456789012:role/*", "123456789012", "arn:aws:s3:::bucket"])
def test_an_uploader_is_a_role_or_a_user(tmp_path: Path, uploader: str) -> None:
    text = (FOLDER / "prod-local.yaml").read_text()
    path = tmp_path / "uploaders.yaml"
    path.write_text(text.replace("  tabular:\n", f'  tabular:\n    model_uploaders: ["{uploader}"]\n', 1))
    with pytest.raises(DeploymentError, match="model_uploaders"):
        Deployment.load(path)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_roles_that_write_artifacts_are_known_to_the_bucket_by_their_path(
    synthesize: Synthesize, deployment: str
) -> None:
    assembly = synthesize(deployment)
    for name, resource in assembly.resources("AWS::IAM::Role").items():
        builds = "codebuild.amazonaws.com" in json.dumps(resource["Properties"]["AssumeRolePolicyDocument"])
        if builds and '"s3:PutObject"' in json.dumps(resource["Properties"].get("Policies", [])):
            assert resource["Properties"]["Path"].startswith("/sagemaker-inference-stacks/"), name
    for name, project in assembly.resources("AWS::CodeBuild::Project").items():
        # A name alone would be looked for without its path.
        assert "Fn::GetAtt" in project["Properties"]["ServiceRole"], name


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_sagemaker_and_codebuild_take_on_roles_for_this_account_only(synthesize: Synthesize, deployment: str) -> None:
    for name, resource in synthesize(deployment).resources("AWS::IAM::Role").items():
        for statement in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
            service = plain(statement["Principal"].get("Service", ""))
            if service.startswith(("sagemaker.", "codebuild.")):
                assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}, (
                    name
                )


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_model_is_held_to_the_hashes_that_its_build_reported(synthesize: Synthesize, deployment: str) -> None:
    for name, model in synthesize(deployment).resources("AWS::SageMaker::Model").items():
        container = model["Properties"]["PrimaryContainer"]
        if container.get("Mode") == "MultiModel" or "Compiled" in json.dumps(container["ModelDataUrl"]):
            continue
        environment = container["Environment"]
        for variable in ("MODEL_ARCHIVE_SHA256", "MODEL_MANIFEST_SHA256"):
            artifact, attribute = environment[variable]["Fn::GetAtt"]
            assert artifact in json.dumps(container["ModelDataUrl"]), name
            assert attribute.endswith("Sha256")
