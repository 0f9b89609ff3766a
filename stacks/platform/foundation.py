"""Resources that all other stacks share: key, buckets, alert topic, budget."""

import json

from aws_cdk import Annotations, Aws, Duration, RemovalPolicy
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_ce as ce
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from containers.load_test import contract
from stacks.constructs.artifact_writers import deny_other_writers
from stacks.constructs.build_project import cache_prefix, foreign_objects
from stacks.constructs.log_group import admit_logs
from stacks.constructs.private_bucket import emptying_role_arn, log_emptying, private_bucket
from stacks.constructs.private_network import PrivateNetwork
from stacks.constructs.served_configuration import ConfigurationCheck
from stacks.naming import key_description
from stacks.resources import DeploymentStack, SharedResources, release
from stacks.settings.budget import Budget
from stacks.settings.deployment import Deployment
from stacks.settings.model_build import code_artifact


class FoundationStack(DeploymentStack):
    """KMS key, artifact bucket with its access logs, alert topic, and the private network and budget if configured."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id, deployment=deployment)
        removal = RemovalPolicy.RETAIN if deployment.retain_data else RemovalPolicy.DESTROY
        self.key = kms.Key(
            self,
            "Key",
            description=key_description(deployment.environment),
            enable_key_rotation=True,
            pending_window=Duration.days(7),
            removal_policy=removal,
        )
        # S3 and load balancers write access logs only to buckets encrypted with S3's own keys.
        self.access_logs = private_bucket(self, "AccessLogs", removal=removal)
        self.artifacts = private_bucket(
            self, "Artifacts", removal=removal, key=self.key, versioned=True, logs=self.access_logs
        )
        self._protect_artifacts(deployment)
        self.alerts = self._build_alerts(deployment)
        self.network = self._build_network(deployment)
        environment = deployment.environment
        admit_logs(
            self.key,
            (
                f"{environment.capitalize()}-*",
                f"/aws/sagemaker/Endpoints/{environment}-*",
                f"/aws/sagemaker/InferenceComponents/{environment}-*",
                f"/aws/ecs/containerinsights/{environment}-*",
            ),
        )
        if deployment.load_test is not None:
            self.artifacts.add_lifecycle_rule(
                id="LoadTests", prefix=f"{contract.FOLDER}/", expiration=Duration.days(contract.KEPT_DAYS)
            )
        if not deployment.retain_data:
            log_emptying(self, key=self.key)
        check = ConfigurationCheck(
            self, "ConfigurationCheck", environment=environment, key=self.key, network=self.network
        )
        release(check)
        self.resources = SharedResources(
            artifacts=self.artifacts,
            access_logs=self.access_logs,
            key=self.key,
            alerts=self.alerts,
            configuration_check=check.service_token,
            network=self.network,
            vpc=deployment.vpc if self.network is None else self.network.named,
        )
        # Exported even if no stack imports them: CloudFormation could not remove an export that the stack of a past
        # workload still imports.
        for value in (self.alerts.topic_arn, self.access_logs.bucket_name):
            self.export_value(value)
        if deployment.budget is not None:
            self._budget(deployment.budget, deployment.environment)
            self._anomalies(deployment.budget, deployment.environment)

    def _protect_artifacts(self, deployment: Deployment) -> None:
        """Allow only builds to write model artifacts, because anyone who can write them runs code in a container."""
        also = [] if deployment.retain_data else [emptying_role_arn(self)]
        for workload, settings in deployment.workloads.items():
            cache = cache_prefix(workload)
            deny_other_writers(
                self.artifacts,
                environment=deployment.environment,
                workload=workload,
                written=[*settings.protected_keys(workload), cache, f"{cache}/*"],
                also=[*also, *settings.writers],
            )

    def _build_alerts(self, deployment: Deployment) -> sns.Topic:
        """Return the topic, whose policy lets this account's alarms publish to it."""
        topic = sns.Topic(self, "Alerts", master_key=self.key, enforce_ssl=True)
        alarms = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        account = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsMayPublish",
                principals=[alarms],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions=account,
            )
        )
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsMayNotify",
                principals=[alarms],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions=account,
            )
        )
        if deployment.alerts is not None:
            topic.add_subscription(subscriptions.EmailSubscription(deployment.alerts.email))
        elif deployment.profile == "prod":
            Annotations.of(topic).add_warning_v2(
                "alerts:no-recipient", "alerts is not set, so alarms notify nobody: set alerts.email to who is on call"
            )
        return topic

    def _build_network(self, deployment: Deployment) -> PrivateNetwork | None:
        if deployment.private_network is None:
            return None
        urls = sorted({url for workload in deployment.workloads.values() for url in workload.s3_urls})
        return PrivateNetwork(
            self,
            "Private",
            settings=deployment.private_network,
            artifacts=self.artifacts,
            read=[arn for url in urls for arn in foreign_objects(url)],
            packages=code_artifact(deployment.model_build.package_index or "") is not None,
            key=self.key,
        )

    def _budget(self, budget: Budget, environment: str) -> None:
        subscriber = budgets.CfnBudget.SubscriberProperty(subscription_type="EMAIL", address=budget.email)
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=f"{environment}-monthly",
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=budget.monthly_usd, unit="USD"),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN", notification_type=kind, threshold=threshold
                    ),
                    subscribers=[subscriber],
                )
                for kind, threshold in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )

    def _anomalies(self, budget: Budget, environment: str) -> None:
        """Monitor this deployment's costs by its tag; an account has only one monitor over all services."""
        if budget.anomaly_usd is None:
            return
        monitor = ce.CfnAnomalyMonitor(
            self,
            "CostAnomalies",
            monitor_name=f"{environment}-costs",
            monitor_type="CUSTOM",
            monitor_specification=json.dumps({"Tags": {"Key": "environment", "Values": [environment]}}),
        )
        large = {
            "Key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE",
            "MatchOptions": ["GREATER_THAN_OR_EQUAL"],
            "Values": [f"{budget.anomaly_usd:g}"],
        }
        ce.CfnAnomalySubscription(
            self,
            "CostAnomalyMails",
            subscription_name=f"{environment}-costs",
            frequency="DAILY",
            monitor_arn_list=[monitor.attr_monitor_arn],
            subscribers=[ce.CfnAnomalySubscription.SubscriberProperty(type="EMAIL", address=budget.email)],
            threshold_expression=json.dumps({"Dimensions": large}),
        )
