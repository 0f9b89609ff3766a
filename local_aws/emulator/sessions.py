"""Keys that the emulator issues: role sessions, users' access keys, and presigned URLs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local_aws.account import ACCOUNT_ID, REGION, STATE_VARIABLE
from local_aws.authentication.credentials import Credential, CredentialStore, new_credential
from local_aws.emulator.ministack import identity

_URL_SECONDS = 2 * 3600
"""Lifetime of the URL that a custom resource responds to, in seconds; CloudFormation's own is the same."""
_keys = CredentialStore(Path(os.environ.get(STATE_VARIABLE, "")))
_functions: dict[tuple[str, str], Credential] = {}


def issue_session(
    principal: str, role_arn: str, session_name: str, lifetime_seconds: float | None = None
) -> Credential:
    """Issue a temporary key to a process that acts as a role.

    principal: the account's name for the process. role_arn: empty for a process without a role. session_name: last part
    of the assumed role's ARN.
    """
    credential = new_credential(principal, temporary=True, lifetime_seconds=lifetime_seconds)
    _keys.add(credential)
    role = role_arn.rpartition("/")[2]
    if role:
        session: identity.Session = {
            "Arn": f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{role}/{session_name[:64]}",
            "UserId": f"{role}:{session_name[:64]}",
            "SecretAccessKey": credential.secret_access_key,
            "SessionToken": credential.session_token,
            "AccountId": ACCOUNT_ID,
            "PrincipalType": "AssumedRole",
        }
        if credential.expires is not None:
            session["Expiration"] = credential.expires
        identity.add_session(credential.access_key_id, session)
    return credential


def revoke(credential: Credential) -> None:
    """Revoke a key once the process that used it has ended."""
    _keys.revoke(credential.access_key_id)
    identity.remove_session(credential.access_key_id)


def _store_session(access_key: str, session: identity.Session) -> None:
    """Store the credentials that STS issues, so every process of the account can verify them."""
    _keys.remove_expired()
    _keys.add(
        Credential(
            access_key_id=access_key,
            secret_access_key=session["SecretAccessKey"],
            principal=f"session/{session.get('Arn', '')}",
            session_token=session["SessionToken"],
            expires=session.get("Expiration"),
        )
    )


def _function_credentials(config: dict[str, Any]) -> dict[str, str]:
    """Return the key for a Lambda function's processes: one per function and role."""
    arn, role = config["FunctionArn"], config.get("Role", "")
    if (arn, role) not in _functions:
        _functions[arn, role] = issue_session(f"function/{arn}", role, config.get("FunctionName", "function"))
    return _functions[arn, role].environment()


def _keeping_user_keys(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Update the stored keys of IAM users after an operation that changes them in IAM."""

    def handled(parameters: Any) -> Any:
        before = set(identity.user_keys())
        response = handle(parameters)
        for removed in before - set(identity.user_keys()):
            _keys.revoke(removed)
        for key_id, record in identity.user_keys().items():
            if record["Status"] == "Active":
                _keys.add(Credential(key_id, record["SecretAccessKey"], f"user/{record['UserName']}"))
            else:
                _keys.revoke(key_id)
        return response

    return handled


def presigned(url: str, method: str) -> str:
    """Sign one of the emulator's own URLs with its key, like S3's presigned URLs."""
    key = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest(method, url)
    S3SigV4QueryAuth(key, "s3", REGION, expires=_URL_SECONDS).add_auth(request)
    return str(request.url)


def register() -> None:
    """Replace MiniStack's shared key and unsigned URLs."""
    identity.after_issuing_session(_store_session)
    identity.replace_function_credentials(_function_credentials)
    identity.wrap_user_key_operations(_keeping_user_keys)
    # The middleware has already verified the signature, and MiniStack does not know every key.
    identity.accept_presigned_urls()
    identity.sign_urls(presigned)
