"""Decisions on AWS's published examples; each names the page of the IAM user guide that it is from."""

from typing import Any

import pytest

from local_aws.authorization.evaluation import Kind, Policies, Principal, Request, Verdict, evaluate
from local_aws.authorization.policies import PolicyError, misspelled_actions, parse

ACCOUNT = "123456789012"
VERSION = "2012-10-17"
CARLOS = Principal(f"arn:aws:iam::{ACCOUNT}:user/carlossalazar", ACCOUNT)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service/worker"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/session"
WORKER = Principal(SESSION, ACCOUNT, ROLE)
ALLOWED, DENIED, NOT_ALLOWED = Verdict.ALLOWED, Verdict.DENIED, Verdict.NOT_ALLOWED
BUCKET = "arn:aws:s3:::amzn-s3-demo-bucket-carlossalazar"

# "Policy evaluation for requests within a single account": Carlos and his buckets.
_CARLOS_IDENTITY = {
    "Version": VERSION,
    "Statement": [
        {"Sid": "AllowS3ListRead", "Effect": "Allow", "Resource": "arn:aws:s3:::*",
         "Action": ["s3:GetBucketLocation", "s3:GetAccountPublicAccessBlock", "s3:ListAccessPoints",
                    "s3:ListAllMyBuckets"]},
        {"Sid": "AllowS3Self", "Effect": "Allow", "Action": "s3:*", "Resource": [f"{BUCKET}/*", BUCKET]},
        {"Sid": "DenyS3Logs", "Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::*log*"},
    ],
}  # fmt: skip
_CARLOS_BUCKET = {
    "Version": VERSION,
    "Statement": {
        "Effect": "Allow", "Principal": {"AWS": CARLOS.arn}, "Action": "s3:*", "Resource": [f"{BUCKET}/*", BUCKET],
    },
}  # fmt: skip
# "The difference between explicit and implicit denies".
_REPORTS = {
    "Version": VERSION,
    "Statement": [
        {"Sid": "AllowGetList", "Effect": "Allow", "Action": ["iam:Get*", "iam:List*"], "Resource": "*"},
        {"Sid": "DenyReports", "Effect": "Deny", "Action": "iam:*Report", "Resource": "*"},
    ],
}
# "Permissions boundaries for IAM entities": Shirley Rodriguez.
_SHIRLEY_BOUNDARY = {
    "Version": VERSION,
    "Statement": [{"Effect": "Allow", "Action": ["s3:*", "cloudwatch:*", "ec2:*"], "Resource": "*"}],
}
_SHIRLEY_IDENTITY = {
    "Version": VERSION,
    "Statement": {"Effect": "Allow", "Action": "iam:CreateUser", "Resource": "*"},
}
# "IAM JSON policy elements: NotAction" and "NotResource".
_NOT_IAM = {
    "Version": VERSION,
    "Statement": [{"Effect": "Deny", "NotAction": "iam:*", "Resource": "*"},
                  {"Effect": "Allow", "Action": "*", "Resource": "*"}],
}  # fmt: skip
_ONLY_HR = {
    "Version": VERSION,
    "Statement": [
        {"Effect": "Deny", "Action": "s3:*",
         "NotResource": ["arn:aws:s3:::HRBucket/Payroll", "arn:aws:s3:::HRBucket/Payroll/*"]},
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
    ],
}  # fmt: skip
# "IAM JSON policy elements: Variables and tags".
_HOME = {
    "Version": VERSION,
    "Statement": [
        {"Action": ["s3:ListBucket"], "Effect": "Allow", "Resource": ["arn:aws:s3:::amzn-s3-demo-bucket"],
         "Condition": {"StringLike": {"s3:prefix": ["${aws:username}/*"]}}},
        {"Action": ["s3:GetObject", "s3:PutObject"], "Effect": "Allow",
         "Resource": ["arn:aws:s3:::amzn-s3-demo-bucket/${aws:username}/*"]},
    ],
}  # fmt: skip
_HOME_OF_THE_OLD_VERSION = {**_HOME, "Version": "2008-10-17"}
_CARLOS_KEYS = {"aws:username": ["carlossalazar"]}


def allow(action: str, resource: str = "*", **elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **elements}


def deny(action: str, resource: str = "*", **elements: Any) -> dict[str, Any]:
    return {**allow(action, resource, **elements), "Effect": "Deny"}


def policies(
    *identity: Any, boundary: Any = None, session: Any = None, resource: Any = None, required: bool = False
) -> Policies:
    def parsed(document: Any, name: str) -> Any:
        whole = document if "Statement" in document else {"Version": VERSION, "Statement": document}
        return parse(whole, name)

    return Policies(
        tuple(parsed(each, f"identity-{n}") for n, each in enumerate(identity)),
        None if boundary is None else parsed(boundary, "boundary"),
        None if session is None else (parsed(session, "session"),),
        None if resource is None else parsed(resource, "resource"),
        required,
    )


@pytest.mark.parametrize(
    ("given", "action", "resource", "context", "verdict"),
    [
        (policies(_CARLOS_IDENTITY), "s3:PutObject", f"{BUCKET}-logs/file", {}, DENIED),
        (policies(_CARLOS_IDENTITY), "s3:PutObject", f"{BUCKET}/file", {}, ALLOWED),
        (policies(_CARLOS_IDENTITY), "S3:putobject", f"{BUCKET}/file", {}, ALLOWED),
        (policies(_CARLOS_IDENTITY), "s3:PutObject", f"{BUCKET.upper()}/file", {}, NOT_ALLOWED),
        (policies(_CARLOS_IDENTITY), "s3:PutObject", "arn:aws:s3:::another/file", {}, NOT_ALLOWED),
        (policies(_CARLOS_IDENTITY, resource=_CARLOS_BUCKET), "s3:PutObject", f"{BUCKET}/file", {}, ALLOWED),
        (policies(resource=_CARLOS_BUCKET), "s3:PutObject", f"{BUCKET}/file", {}, ALLOWED),
        (policies(deny("s3:*"), resource=_CARLOS_BUCKET), "s3:PutObject", f"{BUCKET}/file", {}, DENIED),
        (policies(_REPORTS), "iam:GetUser", "*", {}, ALLOWED),
        (policies(_REPORTS), "iam:CreatePolicy", "*", {}, NOT_ALLOWED),
        (policies(_REPORTS), "iam:GetOrganizationsAccessReport", "*", {}, DENIED),
        (policies(_REPORTS, allow("iam:GenerateCredentialReport")), "iam:GenerateCredentialReport", "*", {}, DENIED),
        (policies(_SHIRLEY_IDENTITY, boundary=_SHIRLEY_BOUNDARY), "iam:CreateUser", "*", {}, NOT_ALLOWED),
        (policies(allow("s3:*"), boundary=_SHIRLEY_BOUNDARY), "s3:GetObject", "*", {}, ALLOWED),
        (policies(boundary=_SHIRLEY_BOUNDARY), "s3:GetObject", "*", {}, NOT_ALLOWED),
        (policies(_NOT_IAM), "iam:GetUser", "*", {}, ALLOWED),
        (policies(_NOT_IAM), "s3:GetObject", "*", {}, DENIED),
        (policies(_ONLY_HR), "s3:GetObject", "arn:aws:s3:::HRBucket/Payroll/may", {}, ALLOWED),
        (policies(_ONLY_HR), "s3:GetObject", "arn:aws:s3:::HRBucket/Plans", {}, DENIED),
        (policies(_HOME), "s3:GetObject", "arn:aws:s3:::amzn-s3-demo-bucket/carlossalazar/a", _CARLOS_KEYS, ALLOWED),
        (policies(_HOME), "s3:GetObject", "arn:aws:s3:::amzn-s3-demo-bucket/ann/a", _CARLOS_KEYS, NOT_ALLOWED),
        (policies(_HOME), "s3:GetObject", "arn:aws:s3:::amzn-s3-demo-bucket/ann/a", {}, NOT_ALLOWED),
        (policies(_HOME), "s3:ListBucket", "arn:aws:s3:::amzn-s3-demo-bucket",
         {**_CARLOS_KEYS, "s3:prefix": ["carlossalazar/x"]}, ALLOWED),
        (policies(_HOME_OF_THE_OLD_VERSION), "s3:GetObject", "arn:aws:s3:::amzn-s3-demo-bucket/carlossalazar/a",
         _CARLOS_KEYS, NOT_ALLOWED),
    ],
)  # fmt: skip
def test_a_users_request_is_decided_as_in_the_published_example(
    given: Policies, action: str, resource: str, context: dict[str, list[str]], verdict: Verdict
) -> None:
    assert evaluate(Request(CARLOS, action, resource, context), given).verdict is verdict


_NAMES_ROLE: dict[str, Any] = {"Principal": {"AWS": ROLE}}
_NAMES_SESSION: dict[str, Any] = {"Principal": {"AWS": SESSION}}
_NAMES_ACCOUNT: dict[str, Any] = {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
_NAMES_EVERYONE: dict[str, Any] = {"Principal": "*"}
_READS_ONLY = allow("s3:GetObject")


@pytest.mark.parametrize(
    ("given", "verdict", "kind"),
    [
        # "AWS JSON policy elements: Principal" and "Policy evaluation logic".
        (policies(resource=allow("s3:PutObject", **_NAMES_ROLE)), ALLOWED, Kind.RESOURCE),
        (policies(resource=allow("s3:PutObject", **_NAMES_EVERYONE)), ALLOWED, Kind.RESOURCE),
        (policies(resource=allow("s3:PutObject", **_NAMES_ACCOUNT)), NOT_ALLOWED, Kind.IDENTITY),
        (policies(allow("s3:*"), resource=allow("s3:GetObject", **_NAMES_ACCOUNT)), ALLOWED, Kind.IDENTITY),
        (policies(allow("s3:*"), resource=deny("s3:*", **_NAMES_EVERYONE)), DENIED, Kind.RESOURCE),
        (policies(allow("s3:*"), resource=deny("s3:*", Principal={"AWS": ACCOUNT})), DENIED, Kind.RESOURCE),
        (policies(allow("s3:*"), resource=deny("s3:*", Principal={"AWS": "999999999999"})), ALLOWED, Kind.IDENTITY),
        (policies(allow("s3:*"), resource=deny("s3:*", Principal={"Service": "logs.amazonaws.com"})), ALLOWED,
         Kind.IDENTITY),
        # A boundary and session policies limit what a resource's policy grants a role, though not its session.
        (policies(boundary=_READS_ONLY, resource=allow("s3:*", **_NAMES_ROLE)), NOT_ALLOWED, Kind.BOUNDARY),
        (policies(session=_READS_ONLY, resource=allow("s3:*", **_NAMES_ROLE)), NOT_ALLOWED, Kind.SESSION),
        (policies(boundary=_READS_ONLY, session=_READS_ONLY, resource=allow("s3:*", **_NAMES_SESSION)), ALLOWED,
         Kind.RESOURCE),
        (policies(allow("s3:*"), boundary=_READS_ONLY), NOT_ALLOWED, Kind.BOUNDARY),
        (policies(allow("s3:*"), boundary=deny("s3:Put*")), DENIED, Kind.BOUNDARY),
        (policies(allow("s3:*"), session=_READS_ONLY), NOT_ALLOWED, Kind.SESSION),
        # "AWS JSON policy elements: NotPrincipal": account, role and session must be excepted.
        (policies(allow("s3:*"), resource=deny("s3:*", NotPrincipal={"AWS": [ACCOUNT, ROLE, SESSION]})), ALLOWED,
         Kind.IDENTITY),
        (policies(allow("s3:*"), resource=deny("s3:*", NotPrincipal={"AWS": [ROLE]})), DENIED, Kind.RESOURCE),
        # "Key policies in AWS KMS": an identity policy counts only if the key policy names the account.
        (policies(allow("s3:*"), resource=allow("s3:*", **_NAMES_ACCOUNT), required=True), ALLOWED, Kind.IDENTITY),
        (policies(allow("s3:*"), resource=allow("s3:Get*", **_NAMES_ACCOUNT), required=True), NOT_ALLOWED,
         Kind.RESOURCE),
        (policies(resource=allow("s3:*", **_NAMES_ROLE), required=True), ALLOWED, Kind.RESOURCE),
    ],
)  # fmt: skip
def test_a_roles_request_is_decided_by_all_policies_that_apply(given: Policies, verdict: Verdict, kind: Kind) -> None:
    decision = evaluate(Request(WORKER, "s3:PutObject", "arn:aws:s3:::bucket/key"), given)
    assert (decision.verdict, decision.kind) == (verdict, kind)


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("*", "arn:aws:s3:::bucket/key", True),
        ("arn:aws:s3:::bucket/*/test/*", "arn:aws:s3:::bucket/1/2/test/3/object.jpg", True),
        ("arn:aws:s3:::bucket/*/test/*", "arn:aws:s3:::bucket/1-test/object.jpg", False),
        ("arn:aws:s3:::bucket/??", "arn:aws:s3:::bucket/ab", True),
        ("arn:aws:sqs", "arn:aws:sqs:us-east-1:123456789012:queue", True),
        ("arn:aws:sns:us-*-1:123456789012:topic", "arn:aws:sns:us-east-1:123456789012:topic", True),
        ("arn:aws:sns:us-*-1:123456789012:topic", "arn:aws:sns:us-a:b-1:123456789012:topic", False),
        (
            "arn:aws:lambda:us-east-1:123456789012:function:*",
            "arn:aws:lambda:us-east-1:123456789012:function:f:1",
            True,
        ),
        ("arn:aws:s3:*", "arn:aws:s3:::bucket/key", True),
    ],
)
def test_a_resource_matches_by_segments(pattern: str, resource: str, matches: bool) -> None:
    decision = evaluate(Request(CARLOS, "s3:GetObject", resource), policies(allow("s3:GetObject", pattern)))
    assert decision.allowed is matches


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (policies(), "because no identity-based policy allows the s3:PutObject action"),
        (policies(deny("s3:*")), "with an explicit deny in an identity-based policy"),
        (policies(resource=deny("s3:*", **_NAMES_EVERYONE)), "with an explicit deny in a resource-based policy"),
        (policies(allow("s3:*"), boundary=_READS_ONLY),
         "because no permissions boundary allows the s3:PutObject action"),
        (policies(allow("s3:*"), session=_READS_ONLY), "because no session policy allows the s3:PutObject action"),
    ],
)  # fmt: skip
def test_a_denial_has_awss_words(given: Policies, reason: str) -> None:
    request = Request(WORKER, "s3:PutObject", "arn:aws:s3:::bucket/key")
    assert evaluate(request, given).message(request) == (
        f"User: {SESSION} is not authorized to perform: s3:PutObject on resource: arn:aws:s3:::bucket/key {reason}"
    )


def test_a_decision_names_the_policy_and_the_statement() -> None:
    decision = evaluate(Request(CARLOS, "s3:GetObject", f"{BUCKET}-logs/x"), policies(_CARLOS_IDENTITY))
    assert (decision.policy, decision.statement) == ("identity-0", "DenyS3Logs")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({"Effect": "allow", "Action": "s3:*", "Resource": "*"},
         "p: Statement[0].Effect is 'allow': it must be 'Allow' or 'Deny'"),
        ({"Effect": "Allow", "Actions": "s3:*", "Resource": "*"},
         "p: Statement[0].Actions does not exist: use Action"),
        ({"Effect": "Allow", "Action": "s3:*", "NotAction": "s3:*", "Resource": "*"},
         "p: Statement[0] has both Action and NotAction: keep one"),
        ({"Effect": "Allow", "Resource": "*"}, "p: Statement[0] has neither Action nor NotAction"),
        ({"Effect": "Allow", "Action": "s3 GetObject", "Resource": "*"},
         "p: Statement[0] has the action 's3 GetObject': write it as 'service:Name'"),
        ({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"StringEqual": {"aws:a": "b"}}},
         "p: Statement[0].Condition is invalid: the operator 'StringEqual' does not exist: use StringEquals"),
        ({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Principal": {"Aws": "*"}},
         "p: Statement[0].Principal.Aws does not exist: use one of AWS, Service, Federated, CanonicalUser"),
    ],
)  # fmt: skip
def test_a_document_that_iam_refuses_is_an_error_that_names_the_element(statement: Any, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        parse({"Version": VERSION, "Statement": [statement]}, "p")
    assert str(raised.value) == message


def test_a_misspelled_action_is_found_with_what_was_meant() -> None:
    known = {"s3": ["GetObject", "PutObject"], "sagemaker": ["InvokeEndpoint"]}
    actions = ["s3:GetObjects", "s3:Get*", "sagemakr:InvokeEndpoint", "s3:Write*", "*"]
    policy = parse({"Version": VERSION, "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}}, "p")
    assert misspelled_actions(policy, known) == [
        "p: the action 's3:GetObjects' does not exist: use s3:GetObject",
        "p: the action 'sagemakr:InvokeEndpoint' does not exist: use sagemaker:InvokeEndpoint",
        "p: the action 's3:Write*' does not exist",
    ]
