"""Settings of what a deployment may cost."""

from pydantic import Field

from stacks.frozen import Settings


class Budget(Settings):
    """A monthly cost budget of the account that mails at 80 % and 100 %.

    anomaly_usd: what a cost anomaly must come to, in dollars, for the day's mail about it; absent, nobody looks for
        anomalies. It looks at what has this deployment's `environment` tag, which must be a cost allocation tag.
    """

    monthly_usd: float = Field(gt=0)
    anomaly_usd: float | None = Field(default=None, gt=0)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
