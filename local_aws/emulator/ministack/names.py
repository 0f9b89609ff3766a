"""MiniStack names that this package uses, and a check that the installed version has them."""

import importlib
from collections.abc import Mapping
from importlib.metadata import version

NAMES: Mapping[str, tuple[str, ...]] = {
    "ministack.app": (
        "SERVICE_HANDLERS", "_build_persistence_save_dict", "_load_persisted_state", "_loaded_modules", "_state_map",
        "app", "main", "save_all",
    ),
    "ministack.core.lambda_runtime": ("execution_credentials",),
    "ministack.core.responses": (
        "error_response_json", "get_account_id", "get_region", "json_response", "set_request_region",
    ),
    "ministack.core.router": ("SERVICE_PATTERNS",),
    "ministack.services.budgets": ("_budgets", "_create_budget", "_delete_budget"),
    "ministack.services.cloudformation": ("_change_sets", "_stacks"),
    "ministack.services.cloudformation.changesets": ("_deploy_stack_async",),
    "ministack.services.cloudformation.custom_resource": ("_response_url",),
    "ministack.services.cloudformation.handlers": ("_delete_stack_async", "_deploy_stack_async"),
    "ministack.services.cloudformation.provisioners": (
        "_REPLACING_PROPERTIES", "_RESOURCE_HANDLERS", "_codebuild_cfn_to_api", "_ec2_sg_permissions",
        "_physical_name",
    ),
    "ministack.services.cloudformation.stacks": (
        "_delete_stack_async", "_deploy_stack_async", "_failed_operation", "_roll_back_operation",
        "_runs_on_worker_thread", "_stack_region_context",
    ),
    "ministack.services.cloudformation.wait_conditions": ("handle_url",),
    "ministack.services.cloudwatch": (
        "_alarm_history", "_alarms", "_cbor_alarm", "_cbor_ok", "_cbor_timestamp", "_composite_alarms", "_dashboards",
        "_delete_alarms", "_describe_alarms", "_describe_alarms_for_metric", "_dispatch_alarm_actions", "_error",
        "_evaluate_alarm", "_evaluate_all_alarms", "_evaluate_parent_alarms", "_get_metric_data",
        "_get_metric_statistics", "_json_ok", "_list_dashboards", "_list_metrics", "_parse_ts", "_put_composite_alarm",
        "_put_dashboard", "_put_metric_alarm", "_put_metric_data", "_record_history", "_xml",
        "cloudformation_put_metric_alarm", "record_metric",
    ),
    "ministack.services.cloudwatch_logs": (
        "_append_log_events", "_build_log_record", "_describe_log_groups", "_describe_log_streams", "_log_groups",
        "_log_records", "_metric_filters",
    ),
    "ministack.services.codebuild": (
        "EXECUTE_BUILDS", "_builds", "_execute_build", "_finish_build", "_log_sink", "_projects", "_record_phase",
        "_start_build", "_timeout_seconds",
    ),
    "ministack.services.ec2": ("_flow_logs", "_now_ts", "_security_groups"),
    "ministack.services.ecr": ("_describe_images", "_find_image", "_repositories"),
    "ministack.services.ecs": (
        "_ACTION_MAP", "_build_run_kwargs", "_clusters", "_docker", "_mark_task_stopped", "_resolve_cluster_name",
        "_resolve_task", "_sanitize",
    ),
    "ministack.services.eventbridge": ("_events_log", "_rule_key", "_rules"),
    "ministack.services.iam": (
        "_IAM_HANDLERS", "_access_keys", "_instance_profiles", "_policies", "_roles", "_users",
    ),
    "ministack.services.kms": ("_aliases",),
    "ministack.services.lambda_svc": (
        "_emit_lambda_logs", "_functions", "_presigned_code_url", "execution_credentials",
    ),
    "ministack.services.s3": (
        "_bucket_tags", "_completed_multipart_uploads", "_multipart_uploads", "_object_versions", "_persist_object",
        "_upload_part", "_upload_part_copy", "_verify_presigned_sigv4",
    ),
    "ministack.services.secretsmanager": ("_secrets",),
    "ministack.services.sns": ("_topics",),
    "ministack.services.ssm": ("_parameters",),
    "ministack.services.stepfunctions": ("_state_machines",),
    "ministack.services.sts": ("_sessions", "register_session"),
}  # fmt: skip
"""Names by module, in the order in which the modules are imported."""


class MissingNamesError(RuntimeError):
    """The installed MiniStack lacks names that this package uses; the message is one line."""


def check() -> None:
    """Import MiniStack's modules, and raise MissingNamesError unless they have all the names."""
    missing = [name for module, names in NAMES.items() for name in _missing(module, names)]
    if missing:
        raise MissingNamesError(
            f"MiniStack {version('ministack')} does not have {', '.join(missing)}: install the version in "
            "local_aws/requirements.txt, or adapt local_aws/emulator/ministack to this one"
        )


def _missing(module: str, names: tuple[str, ...]) -> list[str]:
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("ministack."):
            raise
        return [str(error.name)]
    return [f"{module}.{name}" for name in names if not hasattr(loaded, name)]
