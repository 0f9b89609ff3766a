"""The images that endpoints run: this project's, built from `containers/`, and AWS's."""

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import Annotations, Aws, CfnMapping, Stack, Token
from aws_cdk import aws_ecr_assets as ecr_assets
from constructs import Construct

from stacks.constructs.assets import AssetSource, stage
from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.neo import Processor
from stacks.settings.supply_chain import base_warning

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
_TENSORFLOW_SERVING = "tensorflow-inference:2.19.0"
_TENSORFLOW_SERVING_ACCOUNTS = {
    "af-south-1": "626614931356",
    "ap-east-1": "871362719292",
    "ap-east-2": "975050140332",
    "ap-northeast-1": "763104351884",
    "ap-northeast-2": "763104351884",
    "ap-northeast-3": "364406365360",
    "ap-south-1": "763104351884",
    "ap-south-2": "772153158452",
    "ap-southeast-1": "763104351884",
    "ap-southeast-2": "763104351884",
    "ap-southeast-3": "907027046896",
    "ap-southeast-4": "457447274322",
    "ap-southeast-5": "550225433462",
    "ap-southeast-6": "633930458069",
    "ap-southeast-7": "590183813437",
    "ca-central-1": "763104351884",
    "ca-west-1": "204538143572",
    "cn-north-1": "727897471807",
    "cn-northwest-1": "727897471807",
    "eu-central-1": "763104351884",
    "eu-central-2": "380420809688",
    "eu-north-1": "763104351884",
    "eu-south-1": "692866216735",
    "eu-south-2": "503227376785",
    "eu-west-1": "763104351884",
    "eu-west-2": "763104351884",
    "eu-west-3": "763104351884",
    "il-central-1": "780543022126",
    "me-central-1": "914824155844",
    "me-south-1": "217643126080",
    "mx-central-1": "637423239942",
    "sa-east-1": "763104351884",
    "us-east-1": "763104351884",
    "us-east-2": "763104351884",
    "us-gov-east-1": "446045086412",
    "us-gov-west-1": "442386744353",
    "us-west-1": "763104351884",
    "us-west-2": "763104351884",
}
"""Account of the registry by region: image_uri_config/tensorflow.json, version 2.19.0, of sagemaker-core 2.27.0."""

_NEO_TENSORFLOW_ACCOUNTS = {
    "af-south-1": "774647643957",
    "ap-east-1": "110948597952",
    "ap-northeast-1": "941853720454",
    "ap-northeast-2": "151534178276",
    "ap-northeast-3": "925152966179",
    "ap-south-1": "763008648453",
    "ap-southeast-1": "324986816169",
    "ap-southeast-2": "355873309152",
    "ca-central-1": "464438896020",
    "cn-north-1": "472730292857",
    "cn-northwest-1": "474822919863",
    "eu-central-1": "746233611703",
    "eu-central-2": "010526262399",
    "eu-north-1": "601324751636",
    "eu-south-1": "966458181534",
    "eu-west-1": "802834080501",
    "eu-west-2": "205493899709",
    "eu-west-3": "254080097072",
    "il-central-1": "275950707576",
    "me-south-1": "836785723513",
    "sa-east-1": "756306329178",
    "us-east-1": "785573368785",
    "us-east-2": "007439368137",
    "us-gov-east-1": "227234621604",
    "us-gov-west-1": "263933020539",
    "us-west-1": "710691900526",
    "us-west-2": "301217895009",
}
"""Account of the registry by region: image_uri_config/neo-tensorflow.json, both versions, of sagemaker-core 2.27.0."""


REGISTRY_TOKEN = "ecr:GetAuthorizationToken has no resource in IAM; its token opens the one repository that is granted"
"""Why a role that pulls an image has a statement for every resource."""


@dataclass(frozen=True, slots=True)
class ServedImage:
    """An image's URI, and the ARN of its repository, which a role must be allowed to read."""

    uri: str
    repository_arn: str


def container_image(
    scope: Construct,
    construct_id: str,
    *,
    deployment: Deployment,
    folder: str,
    build_args: Mapping[str, str] | None = None,
    on_neuron: bool = False,
) -> ServedImage:
    """Return the image of `containers/<folder>/Dockerfile`, built from that folder and the shared serving code.

    on_neuron: it is built on AWS's container with the Neuron SDK.
    """
    source = AssetSource(
        context="containers", folders=(f"containers/{folder}", "containers/serving"), flat=("containers",)
    )
    arguments = {**(build_args or {}), **_base_argument(scope, deployment, on_neuron=on_neuron)}
    return _project_image(scope, construct_id, source, f"{folder}/Dockerfile", arguments)


def load_test_image(scope: Construct, construct_id: str, *, deployment: Deployment) -> ServedImage:
    """Return the image of load tests, built from `load_tests` and `containers/load_test`."""
    source = AssetSource(context=".", folders=("containers/load_test", "load_tests"), without=("load_tests/tuning",))
    arguments = _base_argument(scope, deployment, on_neuron=False)
    return _project_image(scope, construct_id, source, "containers/load_test/Dockerfile", arguments)


def _base_argument(scope: Construct, deployment: Deployment, *, on_neuron: bool) -> dict[str, str]:
    """Return the build argument of the configured base image; without one, warn in profile prod."""
    base = deployment.images.chosen(on_neuron=on_neuron)
    if base is not None:
        return {"BASE_IMAGE": base}
    if deployment.profile == "prod":
        Annotations.of(scope).add_warning_v2("images:base", base_warning(on_neuron=on_neuron))
    return {}


def _project_image(
    scope: Construct, construct_id: str, source: AssetSource, dockerfile: str, build_args: Mapping[str, str]
) -> ServedImage:
    asset = ecr_assets.DockerImageAsset(
        scope,
        construct_id,
        directory=stage(scope, source),
        file=dockerfile,
        build_args=dict(build_args) if build_args else None,
        platform=ecr_assets.Platform.LINUX_AMD64,
    )
    return ServedImage(asset.image_uri, asset.repository.repository_arn)


def builtin_xgboost_image(scope: Construct, construct_id: str) -> ServedImage:
    """Return SageMaker's built-in XGBoost image, in the registry of the deployment's region."""
    return _aws_image(scope, construct_id, _BUILTIN_XGBOOST, _BUILTIN_XGBOOST_ACCOUNTS)


def tensorflow_serving_image(scope: Construct, construct_id: str, *, processor: Processor) -> ServedImage:
    """SageMaker's TensorFlow Serving image, in the registry of the region that is deployed to."""
    return _aws_image(scope, construct_id, f"{_TENSORFLOW_SERVING}-{processor}", _TENSORFLOW_SERVING_ACCOUNTS)


def neo_tensorflow_image(scope: Construct, construct_id: str, *, version: str, processor: Processor) -> ServedImage:
    """SageMaker's image for TensorFlow models that Neo compiled, in the registry of the region that is deployed to."""
    image = f"sagemaker-inference-tensorflow:{version}-{processor}-py3"
    return _aws_image(scope, construct_id, image, _NEO_TENSORFLOW_ACCOUNTS)


def _aws_image(scope: Construct, construct_id: str, image: str, accounts: Mapping[str, str]) -> ServedImage:
    """Return an image of AWS's registries by region; raises DeploymentError for a region without one."""
    region = Stack.of(scope).region
    if not Token.is_unresolved(region) and region not in accounts:
        raise DeploymentError(
            f"region is {region!r}: AWS has no registry with the image {image} there; use another region, or a server "
            "whose image this project builds"
        )
    mapping = CfnMapping(
        scope, construct_id, mapping={region: {"account": account} for region, account in accounts.items()}
    )
    account = mapping.find_in_map(Aws.REGION, "account")
    return ServedImage(
        f"{account}.dkr.ecr.{Aws.REGION}.{Aws.URL_SUFFIX}/{image}",
        f"arn:{Aws.PARTITION}:ecr:{Aws.REGION}:{account}:repository/{image.partition(':')[0]}",
    )
