"""Names of stacks, constructs and endpoints."""


def camel(key: str) -> str:
    """Return `some_name` as `SomeName`."""
    return "".join(part.capitalize() for part in key.split("_"))


def tuning_endpoint_name(endpoint_name: str) -> str:
    """Name of the endpoint on which `inference tune` tries settings beside that endpoint."""
    return f"{endpoint_name}-tune"


def component_name(endpoint_name: str) -> str:
    """Name of an endpoint's component, the InferenceComponentName of InvokeEndpoint: the endpoint's own."""
    return endpoint_name


def key_description(environment: str) -> str:
    """By which a deployment's key is known, whose name is an id."""
    return f"Encrypts the artifacts and alerts of {environment}"
