"""What a churn model reads: the order of its features, and the names of model archives."""

AREA_CODES = (408, 415, 510)
FEATURES = (
    "account_length",
    "vmail_message",
    "day_mins",
    "day_calls",
    "eve_mins",
    "eve_calls",
    "night_mins",
    "night_calls",
    "intl_mins",
    "intl_calls",
    "custserv_calls",
    *(f"area_code_{code}" for code in AREA_CODES),
    "intl_plan",
    "vmail_plan",
)
"""Order of the values in a CSV row: counts and minutes as they are, the rest 0 or 1.

Phone and the four charges are left out, as in the published notebook: a number says nothing, and a charge
is its minutes times a price.
"""
MODEL_FILE = "xgboost-model"
"""The archive's only file: SageMaker's built-in XGBoost container reads every file in an archive as a model."""


def archive_name(state: str) -> str:
    """File name of a state's model, which is also the TargetModel: `churn-xgb-CA.tar.gz`."""
    return f"churn-xgb-{state}.tar.gz"
