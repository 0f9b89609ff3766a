"""Lambda's functions, whose output goes to a log group of their stack as long as it has one."""

from local_aws.emulator.ministack import functions


def register() -> None:
    """Install the change."""
    functions.drop_logs_without_group()
