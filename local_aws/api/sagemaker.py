"""SageMaker's control plane, which `local_aws/hosting` implements."""

from local_aws.api.declaration import Members, Service

_NO_PERMISSIONS = "the local account evaluates no permissions"
_NO_NETWORK = "replicas have this machine's loopback network"
_NO_VOLUMES = "replicas use this machine's disk"
_ENVIRONMENT = "Environment"
_PAGES = "NextToken MaxResults"
_CREATED = "CreationTimeBefore CreationTimeAfter"
_CHANGED = "LastModifiedTimeBefore LastModifiedTimeAfter"
_LISTED = f"SortBy SortOrder {_PAGES} NameContains {_CREATED}"
_VPC = {"VpcConfig": _NO_NETWORK}
_METRICS = "the local account does not scrape containers' metrics"
_STARTS = {"ModelDataDownloadTimeoutInSeconds": "model data is read from this machine"}


def _named(*kinds: str, suffix: str = "Input") -> dict[str, Members]:
    """Return the inputs of the operations that take nothing but a name."""
    return {f"{verb}{kind}{suffix}": Members(f"{kind}Name") for kind in kinds for verb in ("Describe", "Delete")}


_MODELS = {
    "CreateModelInput": Members(
        "ModelName PrimaryContainer Containers InferenceExecutionConfig Tags EnableNetworkIsolation",
        aws_only={"ExecutionRoleArn": _NO_PERMISSIONS, **_VPC},
    ),
    "ContainerDefinition": Members(
        f"Image ImageConfig Mode ModelDataUrl ModelDataSource {_ENVIRONMENT} MultiModelConfig",
        refused={
            "AdditionalModelDataSources": "a replica has one source of model data",
            "ModelPackageName": "the local account has no model packages",
            "InferenceSpecificationName": "the local account has no model packages",
            "ContainerMetricsConfig": _METRICS,
        },
        aws_only={"ContainerHostname": "it names a container among several, and a model has one here"},
    ),
    "ImageConfig": Members(
        "RepositoryAccessMode",
        refused={"RepositoryAuthConfig": "the local account has no private registries"},
        values={"RepositoryAccessMode": {"Vpc": "the local account has no private registries"}},
    ),
    "ModelDataSource": Members("S3DataSource"),
    "S3ModelDataSource": Members(
        "S3Uri S3DataType CompressionType",
        refused={
            "ModelAccessConfig": "the local account has no gated models",
            "HubAccessConfig": "the local account has no SageMaker hubs",
            "ManifestS3Uri": "the local account reads no manifests",
            "ETag": "the local account compares no ETags",
            "ManifestEtag": "the local account reads no manifests",
        },
    ),
    "MultiModelConfig": Members(
        "ModelCacheSetting", values={"ModelCacheSetting": {"Disabled": "replicas cache the models that they load"}}
    ),
    "InferenceExecutionConfig": Members(
        "Mode", values={"Mode": {"Direct": "it needs several containers, and a model has one here; use Serial"}}
    ),
    "ListModelsInput": Members(_LISTED),
    **_named("Model"),
}
_CONFIGS = {
    "CreateEndpointConfigInput": Members(
        "EndpointConfigName ProductionVariants DataCaptureConfig Tags ShadowProductionVariants EnableNetworkIsolation",
        refused={
            "AsyncInferenceConfig": "the local account has no asynchronous inference",
            "ExplainerConfig": "the local account has no explainers",
            "MetricsConfig": _METRICS,
        },
        aws_only={"ExecutionRoleArn": _NO_PERMISSIONS, "KmsKeyId": _NO_VOLUMES, **_VPC},
    ),
    "ProductionVariant": Members(
        "VariantName ModelName InitialInstanceCount InstanceType InitialVariantWeight "
        "ContainerStartupHealthCheckTimeoutInSeconds ManagedInstanceScaling RoutingConfig",
        refused={
            "InstancePools": "a variant has one instance type",
            "AcceleratorType": "the local account has no Elastic Inference",
            "CoreDumpConfig": "the local account stores no core dumps",
            "ServerlessConfig": "the local account has no serverless inference; use InstanceType",
            "CapacityReservationConfig": "the local account has no capacity reservations",
        },
        aws_only={
            "VariantInstanceProvisionTimeoutInSeconds": "an instance is there at once",
            "VolumeSizeInGB": _NO_VOLUMES,
            "EnableSSMAccess": "an instance is a process on this machine",
            "InferenceAmiVersion": "an instance is a process on this machine",
            **_STARTS,
        },
    ),
    "ProductionVariantManagedInstanceScaling": Members(
        "Status MinInstanceCount MaxInstanceCount",
        refused={"ScaleInPolicy": "the local account has as many instances as the copies need"},
    ),
    "ProductionVariantRoutingConfig": Members(
        "RoutingStrategy",
        refused={"PrefixAwareRoutingConfig": "the local account does not route by prefixes"},
        values={"RoutingStrategy": {"PREFIX_AWARE": "the local account does not route by prefixes"}},
    ),
    "DataCaptureConfig": Members(
        "EnableCapture InitialSamplingPercentage DestinationS3Uri KmsKeyId CaptureOptions CaptureContentTypeHeader"
    ),
    "CaptureOption": Members("CaptureMode"),
    "CaptureContentTypeHeader": Members("CsvContentTypes JsonContentTypes"),
    "ListEndpointConfigsInput": Members(_LISTED),
    **_named("EndpointConfig"),
}
_SIZE = Members("Type Value")
_ROLLING = Members("MaximumBatchSize WaitIntervalInSeconds MaximumExecutionTimeoutInSeconds RollbackMaximumBatchSize")
_ENDPOINTS = {
    "CreateEndpointInput": Members("EndpointName EndpointConfigName DeploymentConfig Tags"),
    "UpdateEndpointInput": Members(
        "EndpointName EndpointConfigName RetainAllVariantProperties ExcludeRetainedVariantProperties DeploymentConfig "
        "RetainDeploymentConfig"
    ),
    "VariantProperty": Members("VariantPropertyType"),
    "DeploymentConfig": Members("BlueGreenUpdatePolicy RollingUpdatePolicy AutoRollbackConfiguration"),
    "BlueGreenUpdatePolicy": Members(
        "TrafficRoutingConfiguration TerminationWaitInSeconds MaximumExecutionTimeoutInSeconds"
    ),
    "TrafficRoutingConfig": Members("Type WaitIntervalInSeconds CanarySize LinearStepSize"),
    "CapacitySize": _SIZE,
    "RollingUpdatePolicy": _ROLLING,
    "AutoRollbackConfig": Members("Alarms"),
    "Alarm": Members("AlarmName"),
    "UpdateEndpointWeightsAndCapacitiesInput": Members("EndpointName DesiredWeightsAndCapacities"),
    "DesiredWeightAndCapacity": Members(
        "VariantName DesiredWeight DesiredInstanceCount",
        refused={"ServerlessUpdateConfig": "it is only supported for serverless variants"},
    ),
    "ListEndpointsInput": Members(f"{_LISTED} {_CHANGED} StatusEquals"),
    **_named("Endpoint"),
}
_COMPONENTS = {
    "CreateInferenceComponentInput": Members(
        "InferenceComponentName EndpointName VariantName Specification RuntimeConfig Tags",
        refused={"Specifications": "a component has one instance type; use Specification"},
    ),
    "UpdateInferenceComponentInput": Members(
        "InferenceComponentName Specification RuntimeConfig DeploymentConfig",
        refused={"Specifications": "a component has one instance type; use Specification"},
    ),
    "InferenceComponentSpecification": Members(
        "ModelName Container StartupParameters ComputeResourceRequirements",
        refused={
            "InstanceType": "a component has the instance type of its variant",
            "BaseInferenceComponentName": "the local account has no adapter components; use a model or a container",
            "DataCacheConfig": "the local account fetches a component's files once for all its copies",
            "SchedulingConfig": "the local account has no availability zones",
        },
    ),
    "InferenceComponentContainerSpecification": Members(
        f"Image ArtifactUrl {_ENVIRONMENT}", refused={"ContainerMetricsConfig": _METRICS}
    ),
    "InferenceComponentStartupParameters": Members("ContainerStartupHealthCheckTimeoutInSeconds", aws_only=_STARTS),
    "InferenceComponentComputeResourceRequirements": Members(
        "NumberOfCpuCoresRequired NumberOfAcceleratorDevicesRequired MinMemoryRequiredInMb MaxMemoryRequiredInMb"
    ),
    "InferenceComponentRuntimeConfig": Members("CopyCount"),
    "InferenceComponentDeploymentConfig": Members("RollingUpdatePolicy AutoRollbackConfiguration"),
    "InferenceComponentRollingUpdatePolicy": _ROLLING,
    "InferenceComponentCapacitySize": _SIZE,
    "UpdateInferenceComponentRuntimeConfigInput": Members("InferenceComponentName DesiredRuntimeConfig"),
    "ListInferenceComponentsInput": Members(f"{_LISTED} {_CHANGED} StatusEquals EndpointNameEquals VariantNameEquals"),
    **_named("InferenceComponent"),
}
_COMPILATIONS = {
    "CreateCompilationJobRequest": Members(
        "CompilationJobName InputConfig OutputConfig StoppingCondition Tags",
        refused={"ModelPackageVersionArn": "the local account has no model packages; use InputConfig"},
        aws_only={"RoleArn": _NO_PERMISSIONS, **_VPC},
    ),
    "InputConfig": Members("S3Uri DataInputConfig Framework FrameworkVersion"),
    "OutputConfig": Members(
        "S3OutputLocation TargetDevice TargetPlatform KmsKeyId",
        aws_only={"CompilerOptions": "the compiler is a fake, which compiles for this machine"},
    ),
    "TargetPlatform": Members("Os Arch Accelerator"),
    "StoppingCondition": Members(
        "MaxRuntimeInSeconds",
        refused={
            "MaxWaitTimeInSeconds": "compilation jobs do not run on Spot Instances",
            "MaxPendingTimeInSeconds": "compilation jobs do not wait for instances",
        },
    ),
    "ListCompilationJobsRequest": Members(f"{_LISTED} {_CHANGED} StatusEquals"),
    "StopCompilationJobRequest": Members("CompilationJobName"),
    **_named("CompilationJob", suffix="Request"),
}
_TAGS = {
    "Tag": Members("Key Value"),
    "AddTagsInput": Members("ResourceArn Tags"),
    "DeleteTagsInput": Members("ResourceArn TagKeys"),
    "ListTagsInput": Members(f"ResourceArn {_PAGES}"),
}
_KINDS = ("Model", "EndpointConfig", "Endpoint", "InferenceComponent", "CompilationJob")

SAGEMAKER = Service(
    "sagemaker",
    "SageMaker",
    (
        *(f"{verb}{kind}" for kind in _KINDS for verb in ("Create", "Describe", "Delete")),
        *(f"List{kind}s" for kind in _KINDS),
        "UpdateEndpoint",
        "UpdateEndpointWeightsAndCapacities",
        "UpdateInferenceComponent",
        "UpdateInferenceComponentRuntimeConfig",
        "StopCompilationJob",
        "AddTags",
        "DeleteTags",
        "ListTags",
    ),
    {**_MODELS, **_CONFIGS, **_ENDPOINTS, **_COMPONENTS, **_COMPILATIONS, **_TAGS},
)
