"""Settings of what a deployment may cost."""

from pydantic import Field

from stacks.settings.base import Settings
from stacks.settings.regions import WITHOUT_BUDGETS, WITHOUT_COST_ANOMALIES


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

    def check_region(self, region: str) -> None:
        """Raise ValueError for a region in which CloudFormation creates no budgets, or no anomaly monitors."""
        if region in WITHOUT_BUDGETS:
            raise ValueError(
                f"budget is set and region is {region!r}: CloudFormation has no budgets there; remove it, and set it "
                "in a deployment of another region, since a budget covers the account"
            )
        if self.anomaly_usd is not None and region in WITHOUT_COST_ANOMALIES:
            raise ValueError(
                f"budget.anomaly_usd is set and region is {region!r}: CloudFormation has no cost anomaly monitors "
                "there; remove it"
            )
