"""CloudFormation's resource types."""

from collections.abc import Callable, Sequence
from typing import Any

from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]
Provisioned = tuple[str, Properties]
"""Physical ID of a resource, and its attributes."""
Create = Callable[[str, Properties, str], Provisioned]
"""Takes a logical ID, the properties, and the stack's name."""
Update = Callable[[str, Properties, Properties, str], Provisioned]
"""Takes a physical ID, the old and the new properties, and the stack's name."""
Delete = Callable[[str, Properties], None]
"""Takes a physical ID and the properties."""


def register_resource(
    kind: str, *, create: Create, delete: Delete, update: Update | None = None, replacing: Sequence[str] = ()
) -> None:
    """Add or replace a resource type.

    update: without it, a changed resource is created again. replacing: properties whose change replaces the resource.
    """
    handlers: dict[str, Callable[..., Any]] = {"create": create, "delete": delete}
    if update is not None:
        handlers["update"] = update
    provisioners._RESOURCE_HANDLERS[kind] = handlers
    if replacing:
        provisioners._REPLACING_PROPERTIES[kind] = tuple(replacing)


def unregister_resource(kind: str) -> None:
    """Remove a resource type, so a template that contains it fails."""
    provisioners._RESOURCE_HANDLERS.pop(kind, None)


def after_provisioning(kind: str, follow_up: Callable[[str, Properties], None]) -> None:
    """Call a function with the physical ID and the properties of each created or updated resource of a type."""
    handlers = provisioners._RESOURCE_HANDLERS[kind]
    create, update = handlers["create"], handlers["update"]

    def created(logical_id: str, properties: Properties, *rest: Any) -> Any:
        result = create(logical_id, properties, *rest)
        follow_up(result[0], properties)
        return result

    def updated(physical_id: str, old: Properties, new: Properties, *rest: Any) -> Any:
        result = update(physical_id, old, new, *rest)
        follow_up(result[0], new)
        return result

    handlers |= {"create": created, "update": updated}


def before_naming(
    kind: str, name_of: Callable[[Properties], str | None], check: Callable[[str, str, str], None]
) -> None:
    """Call a function before a resource of a type gets the name that its template gives it; what it raises fails it.

    name_of: returns the name from the properties, or None. check: takes the logical ID, the name, and the stack's name.
    """
    handlers = provisioners._RESOURCE_HANDLERS[kind]
    create, update = handlers["create"], handlers["update"]

    def created(logical_id: str, properties: Properties, stack: str) -> Any:
        if name := name_of(properties):
            check(logical_id, name, stack)
        return create(logical_id, properties, stack)

    def updated(physical_id: str, old: Properties, new: Properties, stack: str, *logical_id: str) -> Any:
        # Another name replaces the resource, and only some of MiniStack's updates call `create` for that.
        if (name := name_of(new)) and name != name_of(old):
            check("".join(logical_id), name, stack)
        return update(physical_id, old, new, stack, *logical_id)

    handlers |= {"create": created, "update": updated}


def delete_resource(kind: str, physical_id: str, properties: Properties | None = None) -> None:
    """Delete a resource with the handler of its type."""
    provisioners._RESOURCE_HANDLERS[kind]["delete"](physical_id, properties or {})


def physical_name(stack: str, logical_id: str, *, max_length: int) -> str:
    """Return the name that CloudFormation gives to a resource whose template names none."""
    name: str = provisioners._physical_name(stack, logical_id, max_len=max_length)
    return name
