"""The columns of a churn table, and the accepted words and states."""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["state", "text", "number", "whole", "yes_no"]

STATES = (
    "AK", "AL", "AR", "AZ", "CA", "CO", "CT", "DC", "DE", "FL", "GA", "HI", "IA", "ID", "IL", "IN", "KS",
    "KY", "LA", "MA", "MD", "ME", "MI", "MN", "MO", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV",
    "NY", "OH", "OK", "OR", "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VA", "VT", "WA", "WI", "WV", "WY",
)  # fmt: skip
"""Postal codes of the 50 states and DC, in alphabetical order."""

YES = ("true.", "true", "yes", "1")
NO = ("false.", "false", "no", "0")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    name: spelling in the public sample.
    kind: type of the values.
    feature: name of the feature with the column's values, or None if there is none.
    """

    name: str
    kind: Kind
    feature: str | None = None

    @property
    def key(self) -> str:
        """Return the key that the column is matched by."""
        return column_key(self.name)


def column_key(name: str) -> str:
    """Return the letters and digits of a column's name in lower case; published copies differ in the rest."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


STATE = Column("State", "state")
AREA_CODE = Column("Area Code", "whole")
CHURN = Column("Churn?", "yes_no")
COLUMNS = (
    STATE,
    Column("Account Length", "whole", "account_length"),
    AREA_CODE,
    Column("Phone", "text"),
    Column("Int'l Plan", "yes_no", "intl_plan"),
    Column("VMail Plan", "yes_no", "vmail_plan"),
    Column("VMail Message", "whole", "vmail_message"),
    Column("Day Mins", "number", "day_mins"),
    Column("Day Calls", "whole", "day_calls"),
    Column("Day Charge", "number"),
    Column("Eve Mins", "number", "eve_mins"),
    Column("Eve Calls", "whole", "eve_calls"),
    Column("Eve Charge", "number"),
    Column("Night Mins", "number", "night_mins"),
    Column("Night Calls", "whole", "night_calls"),
    Column("Night Charge", "number"),
    Column("Intl Mins", "number", "intl_mins"),
    Column("Intl Calls", "whole", "intl_calls"),
    Column("Intl Charge", "number"),
    Column("CustServ Calls", "whole", "custserv_calls"),
    CHURN,
)
