"""Decisions on requests within one account.

Sources: "Policy evaluation logic", "Policy evaluation for requests within a single account", "Permissions boundaries
for IAM entities" and "AWS JSON policy elements: Principal" in the IAM user guide; "Key policies in AWS KMS" in the KMS
developer guide.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from local_aws.authorization.patterns import Context
from local_aws.authorization.policies import Policy, Principals, Statement


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    arn: of a user, or of a role's session, as errors and GetCallerIdentity write it. role: ARN of the session's role;
    empty for users. service: set for an AWS service that calls on its own behalf, such as `logs.amazonaws.com`.
    """

    arn: str
    account: str
    role: str = ""
    service: str = ""

    @property
    def root(self) -> str:
        """ARN of the account's root user, which also names the account."""
        partition = self.arn.split(":")[1] if self.arn.startswith("arn:") else "aws"
        return f"arn:{partition}:iam::{self.account}:root"


@dataclass(frozen=True, slots=True)
class Request:
    """One action on one resource. context: condition keys in lower case, with their values."""

    principal: Principal
    action: str
    resource: str
    context: Context = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies that apply to a request.

    boundary, session: None if there is none. An empty tuple of session policies allows nothing. resource: policy of the
    resource, or None. resource_must_allow: whether identity policies only count where the resource's policy lets them,
    as for KMS keys and the trust policies of roles.
    """

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None
    resource: Policy | None = None
    resource_must_allow: bool = False


class Kind(Enum):
    """Type of policy, as AWS's messages write it."""

    IDENTITY = "identity-based policy"
    RESOURCE = "resource-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"


class Verdict(Enum):
    """Outcome of an evaluation."""

    ALLOWED = auto()
    DENIED = auto()
    """By a statement with the effect Deny."""
    NOT_ALLOWED = auto()
    """No policy of the decision's kind allows it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and its reason.

    kind: type of the policy that decided, or that lacks the permission. policy, statement: names of what decided; empty
    if nothing matched. statement is its Sid, or its position.
    """

    verdict: Verdict
    kind: Kind
    policy: str = ""
    statement: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request may proceed."""
        return self.verdict is Verdict.ALLOWED

    def message(self, request: Request) -> str:
        """Return AWS's error message for a denied request ("Troubleshoot access denied error messages")."""
        article = "an" if self.kind is Kind.IDENTITY else "a"
        reason = (
            f"with an explicit deny in {article} {self.kind.value}"
            if self.verdict is Verdict.DENIED
            else f"because no {self.kind.value} allows the {request.action} action"
        )
        return (
            f"User: {request.principal.arn} is not authorized to perform: {request.action} on resource: "
            f"{request.resource} {reason}"
        )


class _Naming(Enum):
    """How a resource policy's statement names a principal, from the narrowest form to the widest."""

    SESSION = auto()
    """A user's or a session's own ARN, which permissions boundary and session policies do not limit."""
    PRINCIPAL = auto()
    """A role's ARN, or everyone."""
    ACCOUNT = auto()
    """The account, whose identity policies then decide."""
    NONE = auto()


def evaluate(request: Request, policies: Policies) -> Decision:
    """Decide on a request of the account that owns the resource."""
    for kind, policy in _all(policies):
        statement = _denying(request, policy, names_principals=kind is Kind.RESOURCE)
        if statement is not None:
            return _decision(Verdict.DENIED, kind, policy, statement)
    by_resource, naming = _allowed_by_resource(request, policies.resource)
    if by_resource is not None and naming is _Naming.SESSION:
        return by_resource
    by_identity = _allowed(request, Kind.IDENTITY, policies.identity)
    granted = by_resource if naming is _Naming.PRINCIPAL else by_identity
    if granted is None:
        return Decision(Verdict.NOT_ALLOWED, Kind.IDENTITY)
    if policies.resource_must_allow and by_resource is None:
        name = policies.resource.name if policies.resource else ""
        return Decision(Verdict.NOT_ALLOWED, Kind.RESOURCE, name)
    if policies.boundary is not None and _allowed(request, Kind.BOUNDARY, (policies.boundary,)) is None:
        return Decision(Verdict.NOT_ALLOWED, Kind.BOUNDARY, policies.boundary.name)
    if policies.session is not None and _allowed(request, Kind.SESSION, policies.session) is None:
        return Decision(Verdict.NOT_ALLOWED, Kind.SESSION)
    return granted


def _all(policies: Policies) -> Iterable[tuple[Kind, Policy]]:
    yield from ((Kind.IDENTITY, policy) for policy in policies.identity)
    if policies.resource is not None:
        yield Kind.RESOURCE, policies.resource
    if policies.boundary is not None:
        yield Kind.BOUNDARY, policies.boundary
    yield from ((Kind.SESSION, policy) for policy in policies.session or ())


def _allowed(request: Request, kind: Kind, policies: tuple[Policy, ...]) -> Decision | None:
    for policy in policies:
        for statement in policy.statements:
            if statement.allows and statement.covers(request.action, request.resource, request.context):
                return _decision(Verdict.ALLOWED, kind, policy, statement)
    return None


def _allowed_by_resource(request: Request, policy: Policy | None) -> tuple[Decision | None, _Naming]:
    """Return the decision of the resource's policy, if it allows, and the narrowest form in which it does."""
    best: tuple[Decision | None, _Naming] = (None, _Naming.NONE)
    for statement in policy.statements if policy is not None else ():
        naming = _naming(statement, request.principal)
        if naming.value >= best[1].value or not statement.allows:
            continue
        if policy is not None and statement.covers(request.action, request.resource, request.context):
            best = (_decision(Verdict.ALLOWED, Kind.RESOURCE, policy, statement), naming)
    return best


def _denying(request: Request, policy: Policy, *, names_principals: bool) -> Statement | None:
    for statement in policy.statements:
        if statement.allows or (names_principals and not _is_denied(statement, request.principal)):
            continue
        if statement.covers(request.action, request.resource, request.context):
            return statement
    return None


def _decision(verdict: Verdict, kind: Kind, policy: Policy, statement: Statement) -> Decision:
    label = statement.sid or f"Statement[{policy.statements.index(statement)}]"
    return Decision(verdict, kind, policy.name, label)


def _naming(statement: Statement, principal: Principal) -> _Naming:
    """Return how a statement with the effect Allow names a principal; NotPrincipal names everyone else."""
    if statement.not_principals is not None:
        return _Naming.NONE if _lists_all(statement.not_principals, principal) else _Naming.PRINCIPAL
    named = statement.principals
    if named is None:
        return _Naming.NONE
    if principal.service:
        return _Naming.PRINCIPAL if named.anyone or principal.service in named.services else _Naming.NONE
    if principal.arn in named.aws and principal.arn != principal.root:
        return _Naming.SESSION
    if named.anyone or (principal.role and principal.role in named.aws):
        return _Naming.PRINCIPAL
    return _Naming.NONE if _account(principal).isdisjoint(named.aws) else _Naming.ACCOUNT


def _is_denied(statement: Statement, principal: Principal) -> bool:
    """Return whether a statement with the effect Deny is about a principal."""
    if statement.not_principals is not None:
        return not _lists_all(statement.not_principals, principal)
    return statement.principals is not None and _lists(statement.principals, principal)


def _lists(principals: Principals, principal: Principal) -> bool:
    if principals.anyone:
        return True
    if principal.service:
        return principal.service in principals.services
    return not ({principal.arn, principal.role} - {""} | _account(principal)).isdisjoint(principals.aws)


def _lists_all(principals: Principals, principal: Principal) -> bool:
    """Return whether NotPrincipal excepts a principal: it must list the account, the role and the session."""
    if principals.anyone or principal.service:
        return _lists(principals, principal)
    own = {principal.arn, principal.role} - {""}
    return own <= set(principals.aws) and not _account(principal).isdisjoint(principals.aws)


def _account(principal: Principal) -> set[str]:
    return {principal.account, principal.root}
