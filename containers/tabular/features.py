"""The inputs of a churn model: the order of its features, and the names of model archives."""

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
"""Order of the values in a CSV row: counts and minutes unscaled, the rest 0 or 1.

The phone number and the four charges are left out, as in the published notebook. A phone number carries no
information, and a charge is minutes times a price.
"""
MODEL_FILE = "xgboost-model"
"""The archive's only file: SageMaker's built-in XGBoost container reads every file in an archive as a model."""


def archive_name(state: str) -> str:
    """Return the file name of a state's model, which is also its TargetModel: `churn-xgb-CA.tar.gz`."""
    return f"churn-xgb-{state}.tar.gz"
