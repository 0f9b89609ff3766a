"""Settings of what a deployment may cost."""

from pydantic import Field

from stacks.frozen import Settings


class Budget(Settings):
    """A monthly cost budget of the account that mails at 80 % and 100 %."""

    monthly_usd: float = Field(gt=0)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
