"""Settings of who is told when an alarm fires."""

from pydantic import Field

from stacks.settings.base import Settings


class Alerts(Settings):
    """Who gets the notifications of all alarms, of which every endpoint sends one at a time."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    """Recipient. AWS first sends a mail whose link confirms the subscription."""
