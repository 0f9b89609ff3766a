"""CodeBuild's builds, which `local_aws/emulator` runs."""

from local_aws.api.declaration import Members, Service

_PROJECT = "a build here runs as its project says"
_OVERRIDES = (
    "secondarySourcesOverride", "secondarySourcesVersionOverride", "sourceVersion", "artifactsOverride",
    "secondaryArtifactsOverride", "sourceTypeOverride", "sourceLocationOverride", "sourceAuthOverride",
    "gitCloneDepthOverride", "gitSubmodulesConfigOverride", "buildspecOverride", "insecureSslOverride",
    "reportBuildStatusOverride", "buildStatusConfigOverride", "environmentTypeOverride", "imageOverride",
    "computeTypeOverride", "certificateOverride", "cacheOverride", "serviceRoleOverride", "privilegedModeOverride",
    "timeoutInMinutesOverride", "queuedTimeoutInMinutesOverride", "encryptionKeyOverride", "logsConfigOverride",
    "registryCredentialOverride", "imagePullCredentialsTypeOverride", "fleetOverride", "autoRetryLimitOverride",
    "hostKernelOverride",
)  # fmt: skip

CODEBUILD = Service(
    "codebuild",
    "CodeBuild",
    ("StartBuild",),
    {
        "StartBuildInput": Members(
            "projectName environmentVariablesOverride",
            refused={
                **dict.fromkeys(_OVERRIDES, _PROJECT),
                "idempotencyToken": "every request starts a build here",
                "debugSessionEnabled": "builds here have no sessions",
            },
        ),
        "EnvironmentVariable": Members("name value type"),
    },
)
