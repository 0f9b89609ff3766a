"""The images that endpoints run: this project's, built from `containers/`, and AWS's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Aws, CfnMapping
from aws_cdk import aws_ecr_assets as ecr_assets
from constructs import Construct

CONTAINERS = Path(__file__).parents[1] / "containers"
_BUILTIN_XGBOOST = "sagemaker-xgboost:3.0-5"
_BUILTIN_XGBOOST_ACCOUNTS = {
    "af-south-1": "510948584623",
    "ap-east-1": "651117190479",
    "ap-northeast-1": "354813040037",
    "ap-northeast-2": "366743142698",
    "ap-northeast-3": "867004704886",
    "ap-south-1": "720646828776",
    "ap-south-2": "628508329040",
    "ap-southeast-1": "121021644041",
    "ap-southeast-2": "783357654285",
    "ap-southeast-3": "951798379941",
    "ap-southeast-4": "106583098589",
    "ca-central-1": "341280168497",
    "ca-west-1": "190319476487",
    "cn-north-1": "450853457545",
    "cn-northwest-1": "451049120500",
    "eu-central-1": "492215442770",
    "eu-central-2": "680994064768",
    "eu-north-1": "662702820516",
    "eu-south-1": "978288397137",
    "eu-south-2": "104374241257",
    "eu-west-1": "141502667606",
    "eu-west-2": "764974769150",
    "eu-west-3": "659782779980",
    "il-central-1": "898809789911",
    "me-central-1": "272398656194",
    "me-south-1": "801668240914",
    "sa-east-1": "737474898029",
    "us-east-1": "683313688378",
    "us-east-2": "257758044811",
    "us-gov-east-1": "237065988967",
    "us-gov-west-1": "414596584902",
    "us-west-1": "746614075791",
    "us-west-2": "246618743249",
}
"""Account of the registry by region: image_uri_config/xgboost.json, version 3.0-5, of sagemaker-core 2.27.0."""


@dataclass(frozen=True, slots=True)
class ServedImage:
    """An image's URI, and the ARN of its repository, which a role must be allowed to read."""

    uri: str
    repository_arn: str


def container_image(
    scope: Construct, construct_id: str, *, workload: str, build_args: Mapping[str, str] | None = None
) -> ServedImage:
    """The image of `containers/<workload>/Dockerfile`, whose context is that folder and the shared serving code."""
    asset = ecr_assets.DockerImageAsset(
        scope,
        construct_id,
        directory=str(CONTAINERS),
        file=f"{workload}/Dockerfile",
        build_args=dict(build_args) if build_args else None,
        exclude=["*", "!__init__.py", "!serving", f"!{workload}", "**/__pycache__", "**/*.pyc"],
        platform=ecr_assets.Platform.LINUX_AMD64,
    )
    return ServedImage(asset.image_uri, asset.repository.repository_arn)


def builtin_xgboost_image(scope: Construct, construct_id: str) -> ServedImage:
    """The image of SageMaker's built-in XGBoost, in the registry of the region that is deployed to."""
    accounts = CfnMapping(
        scope,
        construct_id,
        mapping={region: {"account": account} for region, account in _BUILTIN_XGBOOST_ACCOUNTS.items()},
    )
    account = accounts.find_in_map(Aws.REGION, "account")
    repository = _BUILTIN_XGBOOST.partition(":")[0]
    return ServedImage(
        f"{account}.dkr.ecr.{Aws.REGION}.{Aws.URL_SUFFIX}/{_BUILTIN_XGBOOST}",
        f"arn:{Aws.PARTITION}:ecr:{Aws.REGION}:{account}:repository/{repository}",
    )
