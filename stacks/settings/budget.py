"""Settings of what a deployment may cost."""

from pydantic import Field

from stacks.settings.base import Settings


class Budget(Settings):
    """A monthly cost budget of the account, with emails at 80% of the actual and 100% of the forecast cost."""

    monthly_usd: float = Field(gt=0)
    """Monthly budget, in US dollars."""
    anomaly_usd: float | None = Field(default=None, gt=0)
    """Impact of a cost anomaly, in US dollars, from which AWS sends a daily email. Without it, nobody looks for
    anomalies. Only resources with this deployment's `environment` tag count, which must be activated as a cost
    allocation tag."""
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    """Recipient of the emails."""
