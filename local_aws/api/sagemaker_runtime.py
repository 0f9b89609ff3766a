"""SageMaker's runtime, which `local_aws/hosting` implements."""

from local_aws.api.declaration import Members, Service

SAGEMAKER_RUNTIME = Service(
    "sagemaker-runtime",
    "SageMaker Runtime",
    ("InvokeEndpoint",),
    {
        "InvokeEndpointInput": Members(
            "EndpointName Body ContentType Accept CustomAttributes TargetModel TargetVariant InferenceId "
            "InferenceComponentName",
            refused={
                "TargetContainerHostname": "a model has one container here",
                "EnableExplanations": "the endpoint has no ExplainerConfig",
                "SessionId": "the local account has no stateful sessions",
                "PrefixAwareId": "the local account does not route by prefixes",
            },
        )
    },
    {
        "InvokeEndpointAsync": "no endpoint of the local account has an AsyncInferenceConfig",
        "InvokeEndpointWithResponseStream": "the local account does not stream responses",
    },
)
