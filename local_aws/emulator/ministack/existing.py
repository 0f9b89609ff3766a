"""Which names of resources are taken, by a stack or by a client, in the current account and region."""

from collections.abc import Callable, Mapping

from ministack.services import (
    budgets,
    cloudwatch,
    cloudwatch_logs,
    codebuild,
    ecr,
    ecs,
    eventbridge,
    iam,
    kms,
    lambda_svc,
    secretsmanager,
    sns,
    ssm,
    stepfunctions,
)

from local_aws.emulator.ministack.responses import account_id, region

Exists = Callable[[str], bool]
"""Returns whether there is a resource of this name."""


def arn_of(service: str, resource: str) -> str:
    """Return the ARN of a regional resource."""
    return f"arn:aws:{service}:{region()}:{account_id()}:{resource}"


def _has_policy(name: str) -> bool:
    return any(policy["PolicyName"] == name for policy in iam._policies.values())


EXISTS: Mapping[str, Exists] = {
    "AWS::Budgets::Budget": lambda name: name in budgets._budgets,
    "AWS::CloudWatch::Alarm": lambda name: name in cloudwatch._alarms or name in cloudwatch._composite_alarms,
    "AWS::CloudWatch::CompositeAlarm": lambda name: name in cloudwatch._alarms or name in cloudwatch._composite_alarms,
    "AWS::CloudWatch::Dashboard": lambda name: name in cloudwatch._dashboards,
    "AWS::CodeBuild::Project": lambda name: name in codebuild._projects,
    "AWS::ECR::Repository": lambda name: name in ecr._repositories,
    "AWS::ECS::Cluster": lambda name: ecs._clusters.get(name, {}).get("status") == "ACTIVE",
    "AWS::Events::Rule": lambda name: eventbridge._rule_key(name, "default") in eventbridge._rules,
    "AWS::IAM::InstanceProfile": lambda name: name in iam._instance_profiles,
    "AWS::IAM::ManagedPolicy": _has_policy,
    "AWS::IAM::Role": lambda name: name in iam._roles,
    "AWS::IAM::User": lambda name: name in iam._users,
    "AWS::KMS::Alias": lambda name: arn_of("kms", name) in kms._aliases,
    "AWS::Lambda::Function": lambda name: name in lambda_svc._functions,
    "AWS::Logs::LogGroup": lambda name: name in cloudwatch_logs._log_groups,
    "AWS::SNS::Topic": lambda name: arn_of("sns", name) in sns._topics,
    "AWS::SSM::Parameter": lambda name: name in ssm._parameters,
    "AWS::SecretsManager::Secret": lambda name: name in secretsmanager._secrets,
    "AWS::StepFunctions::StateMachine": lambda name: (
        arn_of("states", f"stateMachine:{name}") in stepfunctions._state_machines
    ),
}
"""By CloudFormation type. S3's buckets are missing, because MiniStack refuses those itself."""
