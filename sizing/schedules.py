"""Due times of Application Auto Scaling's scheduled actions: at(...), rate(...) and cron(...)."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

_CALL = re.compile(r"^(?P<kind>at|rate|cron)\((?P<value>.+)\)$")
_RATE = re.compile(r"^(?P<count>[1-9]\d*) (?P<unit>minute|hour|day)s?$")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NOT_EVALUATED = re.compile(r"[#LW]", re.IGNORECASE)


def next_due(schedule: str, timezone: str, after: datetime) -> datetime | None:
    """Return the first time after `after` at which a schedule is due; None if it is never due again.

    Both times are timezone-aware. Syntax: "Schedule recurring scaling actions using cron expressions" in the
    Application Auto Scaling user guide. Raises ValueError for an invalid expression or time zone, and for the parts of
    cron(...) that are not supported here: L, W and #.
    """
    match = _CALL.match(schedule.strip())
    if match is None:
        raise ValueError(f"Schedule is {schedule!r}: write at(yyyy-mm-ddThh:mm:ss), rate(5 minutes) or cron(...)")
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"Timezone is {timezone!r}: give a name of the tz database, such as Europe/Paris") from error
    value = match["value"].strip()
    match match["kind"]:
        case "at":
            return _at(value, zone, after)
        case "rate":
            return _rate(value, after)
        case _:
            return _cron(value, zone, after)


def _at(value: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    try:
        moment = datetime.strptime(value, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone)
    except ValueError:
        raise ValueError(f"Schedule is at({value}): write at(yyyy-mm-ddThh:mm:ss)") from None
    return moment if moment > after else None


def _rate(value: str, after: datetime) -> datetime:
    match = _RATE.match(value)
    if match is None:
        raise ValueError(f"Schedule is rate({value}): write a number and minutes, hours or days")
    return after + int(match["count"]) * timedelta(**{f"{match['unit']}s": 1})


def _cron(value: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    fields = value.split()
    if len(fields) != 6:
        raise ValueError(f"Schedule is cron({value}): write minutes, hours, day of month, month, day of week and year")
    minutes, hours, day, month, weekday, year = fields
    if _NOT_EVALUATED.search(day + weekday.lower().replace("wed", "")):
        raise ValueError(f"Schedule is cron({value}): the local account does not support L, W and #")
    # Days of the week start with Sunday, which is 1 on AWS and 0 in cron. croniter takes seconds as its sixth field.
    weekday = re.sub(r"(?<!/)\b[1-7]\b", lambda day: _WEEKDAYS[int(day[0]) - 1], weekday)
    try:
        due: datetime = croniter(
            f"{minutes} {hours} {day} {month} {weekday} 0 {year}", after.astimezone(zone)
        ).get_next(datetime)
    except CroniterBadDateError:
        return None
    except (CroniterBadCronError, ValueError, KeyError) as error:
        raise ValueError(f"Schedule is cron({value}): {error}") from error
    return due.astimezone(UTC)
