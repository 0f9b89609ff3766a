"""Keys and presigned URLs: STS's sessions, IAM's access keys, and Lambda's execution roles."""

from collections.abc import Callable, Mapping
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import iam, lambda_svc, s3, sts
from ministack.services.cloudformation import custom_resource, wait_conditions

Session = dict[str, Any]
"""A session's record: its secret key and token, and the identity that GetCallerIdentity returns."""
_register_session = sts.register_session
_USER_KEY_OPERATIONS = ("CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey")


def add_session(access_key_id: str, session: Session) -> None:
    """Add a session that STS did not issue."""
    _register_session(access_key_id, session)


def remove_session(access_key_id: str) -> None:
    """Remove a session, if there is one."""
    sts._sessions.pop(access_key_id, None)


def after_issuing_session(follow_up: Callable[[str, Session], None]) -> None:
    """Call a function with the access key ID and the record of each session that STS issues."""

    def register_and_follow_up(access_key_id: str, session: Session) -> None:
        _register_session(access_key_id, session)
        follow_up(access_key_id, session)

    sts.register_session = register_and_follow_up


def replace_function_credentials(credentials: Callable[[dict[str, Any]], dict[str, str]]) -> None:
    """Run Lambda functions with the variables that this function returns for a function's configuration."""
    lambda_runtime.execution_credentials = lambda_svc.execution_credentials = credentials


def user_keys() -> Mapping[str, dict[str, Any]]:
    """Return the records of all access keys of IAM users, by ID."""
    keys: Mapping[str, dict[str, Any]] = iam._access_keys
    return keys


def wrap_user_key_operations(wrap: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Replace the handlers that create, update and delete users' access keys with what `wrap` returns for each."""
    for operation in _USER_KEY_OPERATIONS:
        iam._IAM_HANDLERS[operation] = wrap(iam._IAM_HANDLERS[operation])


def accept_presigned_urls() -> None:
    """Accept presigned URLs of S3 without verifying their signatures."""
    s3._verify_presigned_sigv4 = lambda *_: None


def sign_urls(sign: Callable[[str, str], str]) -> None:
    """Sign the URLs that MiniStack hands out, with a function that takes a URL without query, and a method.

    They are the URLs that custom resources and wait conditions respond to, and those of Lambda functions' code.
    """

    def signing(make_url: Callable[[str], str], method: str) -> Callable[[str], str]:
        return lambda token: sign(make_url(token).partition("?")[0], method)

    custom_resource._response_url = signing(custom_resource._response_url, "PUT")
    wait_conditions.handle_url = signing(wait_conditions.handle_url, "PUT")
    lambda_svc._presigned_code_url = signing(lambda_svc._presigned_code_url, "GET")
