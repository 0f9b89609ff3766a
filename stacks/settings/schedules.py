"""Schedule expressions of Application Auto Scaling: cron, rate and at.

Source: "Schedule recurring scaling actions using cron expressions" and the API reference of PutScheduledAction.
"""

import datetime
import re
from dataclasses import dataclass

_UNITS = ("minute", "hour", "day")
_RATE = re.compile(r"rate\((\d+) (minutes?|hours?|days?)\)")
_AT = re.compile(r"at\((.*)\)")
_CRON = re.compile(r"cron\((.*)\)")
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a cron expression: its values, their names, and the special forms that it may have."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    special: str = r"(?!)"

    def problem(self, text: str) -> str | None:
        """Return what is wrong with the field, or None."""
        if text in ("*", "?"):
            return None
        for part in text.split(","):
            if re.fullmatch(self.special, part):
                continue
            whole, _, step = part.partition("/")
            ends = [self._number(end) for end in whole.split("-", 1)] if whole != "*" else [self.least]
            if any(end is None or not self.least <= end <= self.most for end in ends) or not self._is_step(part, step):
                allowed = f"{self.least} to {self.most}" + (
                    f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
                )
                return f"its {self.name} {part!r} must be {allowed}"
        return None

    def _number(self, text: str) -> int | None:
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.least
        return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None

    def _is_step(self, part: str, step: str) -> bool:
        return "/" not in part or (step.isascii() and step.isdigit() and 1 <= int(step) <= self.most)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31, special=r"L|LW|([1-9]|[12][0-9]|3[01])W"),
    _Field("month", 1, 12, tuple(_MONTHS)),
    _Field(
        "day of the week", 1, 7, tuple(_DAYS), special=rf"([1-7]|{'|'.join(_DAYS)})?L|([1-7]|{'|'.join(_DAYS)})#[1-5]"
    ),
    _Field("year", 1970, 2199),
)


def schedule_problem(text: str) -> str | None:
    """Return what AWS would refuse in a schedule expression, and the fix; None for a valid one."""
    if match := _RATE.fullmatch(text):
        return _rate_problem(int(match[1]), match[2])
    if match := _AT.fullmatch(text):
        try:
            moment = datetime.datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S")
        except ValueError:
            moment = None
        form = "write at(yyyy-mm-ddThh:mm:ss), such as at(2027-01-31T22:00:00)"
        return None if moment is not None and len(match[1]) == len("2027-01-31T22:00:00") else form
    if match := _CRON.fullmatch(text):
        return _cron_problem(match[1].split(" "))
    return "write cron(minute hour day-of-month month day-of-week year), rate(value unit) or at(yyyy-mm-ddThh:mm:ss)"


def _rate_problem(value: int, unit: str) -> str | None:
    singular = unit.removesuffix("s")
    if value < 1:
        return "its value must be at least 1"
    if (value == 1) != (unit in _UNITS):
        return f"write rate({value} {singular if value == 1 else singular + 's'})"
    return None


def _cron_problem(fields: list[str]) -> str | None:
    if len(fields) != len(_FIELDS) or "" in fields:
        return (
            f"it has {len([field for field in fields if field])} fields and needs six, with one space between: minute, "
            "hour, day of the month, month, day of the week, year"
        )
    for field, text in zip(_FIELDS, fields, strict=True):
        if (problem := field.problem(text)) is not None:
            return problem
        if text == "?" and not field.name.startswith("day"):
            return f"its {field.name} is '?', which is allowed only for day of the month and day of the week: write *"
    if (fields[2] == "?") == (fields[4] == "?"):
        return "exactly one of day of the month and day of the week must be '?'"
    return None
