"""Lambda's functions."""

from typing import Any

from ministack.services import cloudwatch_logs, lambda_svc

_emit_logs = lambda_svc._emit_lambda_logs


def drop_logs_without_group() -> None:
    """Drop a function's output if the log group of its configuration is gone; MiniStack would create the group again.

    Lambda writes with the function's role. A role that may not create log groups leaves none behind.
    """

    def emit(function: dict[str, Any], *arguments: Any, **options: Any) -> None:
        configuration = function.get("config") or function
        named = (configuration.get("LoggingConfig") or {}).get("LogGroup")
        if named is None or named in cloudwatch_logs._log_groups:
            _emit_logs(function, *arguments, **options)

    lambda_svc._emit_lambda_logs = emit
