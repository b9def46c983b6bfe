"""Windows in named IANA zones. Pure: what a wall clock says, what a night with a clock change means, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from migrationhub.lib.findings import Problem

FIRST, SECOND = "first", "second"
EARLIEST, YEARS_AHEAD = date(2000, 1, 1), 5  # of what is planned; anything else is a slip of the finger
LONGEST = timedelta(days=366)  # from the start of something planned to its end
CLOCKS_FOLLOWED = timedelta(days=400)  # longer than anything that can be entered: nobody asks for the clocks in it


class CalendarProblem(Problem):
    """A date, time or zone that cannot be used: names it, what was expected, what to do."""


@dataclass(frozen=True)
class Transition:
    """A change of the clocks: at that instant (UTC) the wall clock jumps from `before` to `after` (both naive)."""

    at: datetime
    before: datetime
    after: datetime

    @property
    def jump(self) -> timedelta:
        """Positive in spring (an hour is missing), negative in autumn (an hour comes twice)."""
        return self.after - self.before


@dataclass(frozen=True)
class Window:
    """From `starts` to `ends` (aware instants), given by people in `zone`."""

    starts: datetime
    ends: datetime
    zone: str

    @property
    def length(self) -> timedelta:
        """The real time in it, whatever the wall clock says."""
        return self.ends.astimezone(UTC) - self.starts.astimezone(UTC)


@cache
def zone_names() -> tuple[str, ...]:
    """The zones that are offered: places and UTC, without the legacy names."""
    places = (name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))
    return ("UTC", *sorted(places))


def zone(name: str) -> ZoneInfo:
    """Raises `CalendarProblem` for a name that the time zone database does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CalendarProblem(
            f"Time zone “{name}” is not known.", "Give an IANA name such as Europe/Zurich or UTC.", code="calendar.zone"
        ) from None


def parse_local(text: str) -> datetime:
    """A naive local time from “2026-11-28T22:00” (a blank for the T is fine, seconds are dropped)."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or len(text.strip()) < len("2026-11-28T22:00"):
        raise CalendarProblem(
            f"“{text.strip()}” is not a date with a time.",
            "Write it as 2026-11-28T22:00, without a zone: the zone has a field of its own.",
            code="calendar.form",
        )
    return found.replace(second=0, microsecond=0)


def check_day(day: date, today: date) -> None:
    """Raises `CalendarProblem` for a day that nobody plans anything for."""
    last = date(today.year + YEARS_AHEAD, 12, 31)
    if not EARLIEST <= day <= last:
        raise CalendarProblem(
            f"“{day.isoformat()}” is too far from today.",
            f"Enter a day from {EARLIEST.isoformat()} to {last.isoformat()}.",
            code="calendar.far",
        )


def transitions(starts: datetime, ends: datetime, place: tzinfo) -> list[Transition]:
    """Every change of the clocks after `starts` and not after `ends` (aware), to the second.

    Pages ask this for every stored window, so it looks once a day, and at nothing that lasts too long.
    """
    low, last = starts.astimezone(UTC), ends.astimezone(UTC)
    if last - low > CLOCKS_FOLLOWED:
        return []
    found = []
    while low < last:
        high = low + min(timedelta(days=1), last - low)
        if _offset(low, place) != _offset(high, place):
            at = _changing(low, high, place)
            before = (at + _offset(at - timedelta(seconds=1), place)).replace(tzinfo=None)
            found.append(Transition(at, before, (at + _offset(at, place)).replace(tzinfo=None)))
        low = high
    return found


def _offset(at: datetime, place: tzinfo) -> timedelta:
    return at.astimezone(place).utcoffset() or timedelta(0)


def _changing(low: datetime, high: datetime, place: tzinfo) -> datetime:
    """The first second in (low, high] with the offset of `high`."""
    after = _offset(high, place)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (low, middle) if _offset(middle, place) == after else (middle, high)
    return high


def resolve(local: datetime, zone_name: str, which: str = "") -> datetime:
    """The instant (UTC) of a naive local time. `which` (first | second) chooses where the time comes twice.

    Raises `CalendarProblem` with code `calendar.missing` for a time that the clocks leave out, with
    `calendar.twice` for one that comes twice while `which` is empty, and with `calendar.far` at the ends of time.
    """
    place = zone(zone_name)
    early, late = local.replace(tzinfo=place, fold=0), local.replace(tzinfo=place, fold=1)
    if early.utcoffset() == late.utcoffset():
        try:
            return early.astimezone(UTC)
        except OverflowError:
            raise CalendarProblem(
                f"{local.isoformat(timespec='minutes')} in {zone_name} is before the first or after the last moment "
                "that there is in UTC.",
                "Enter a date nearer to today.",
                code="calendar.far",
            ) from None
    around = timedelta(hours=26)
    middle = early.astimezone(UTC)
    change = next(
        each
        for each in transitions(middle - around, middle + around, place)
        if min(each.before, each.after) <= local < max(each.before, each.after)
    )
    said = f"{local:%Y-%m-%d %H:%M} "
    if change.jump > timedelta(0):
        raise CalendarProblem(
            f"{said}does not exist in {zone_name}: the clocks go from {change.before:%H:%M} "
            f"to {change.after:%H:%M} that night.",
            f"Choose a time before {change.before:%H:%M} or from {change.after:%H:%M} on.",
            code="calendar.missing",
        )
    if which not in (FIRST, SECOND):
        raise CalendarProblem(
            f"{said}comes twice in {zone_name}: the clocks go back from {change.before:%H:%M} "
            f"to {change.after:%H:%M} that night.",
            f"Say which: the first ({early:%Z}, {_utc(early)}) or the second ({late:%Z}, {_utc(late)}).",
            code="calendar.twice",
        )
    return (early if which == FIRST else late).astimezone(UTC)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M} UTC"


def to_local(moment: datetime, zone_name: str) -> datetime:
    """The naive wall-clock time of an instant in a zone."""
    return moment.astimezone(zone(zone_name)).replace(tzinfo=None)


def which_of(moment: datetime, zone_name: str) -> str:
    """“first” or “second” for an instant whose wall-clock time comes twice; empty otherwise."""
    local = moment.astimezone(zone(zone_name))
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return (SECOND if local.fold else FIRST) if twice else ""


def input_value(moment: datetime, zone_name: str) -> str:
    """As a form's datetime-local field takes it."""
    return f"{to_local(moment, zone_name):%Y-%m-%dT%H:%M}"


def words(moment: datetime, zone_name: str) -> str:
    """“Sat 28 Nov 2026 22:00 CET”."""
    local = moment.astimezone(zone(zone_name))
    return f"{local:%a} {local.day} {local:%b %Y %H:%M} {local:%Z}"


def length_words(length: timedelta) -> str:
    """“7 h”, “25 h”, “7 h 30 min”, “2 d 3 h”, “45 min”: days only from two on, a long night stays in hours."""
    minutes = int(length.total_seconds()) // 60
    days = minutes // 1440 if minutes >= 2 * 1440 else 0
    hours, rest = (minutes - days * 1440) // 60, minutes % 60
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{rest} min" if rest else ""]
    return " ".join(filter(None, parts)) or "0 min"


def window_words(window: Window) -> str:
    """Start, end and length, with the zone by name: what a person reads before saving."""
    return (
        f"{words(window.starts, window.zone)} to {words(window.ends, window.zone)} "
        f"({window.zone}), {length_words(window.length)}"
    )


def dst_words(window: Window) -> str:
    """What a change of the clocks does to this window and its night; empty where there is none."""
    changes = transitions(window.starts, window.ends, zone(window.zone))
    return " ".join(_change_words(change, window) for change in changes)


def _change_words(change: Transition, window: Window) -> str:
    clock = to_local(window.ends, window.zone) - to_local(window.starts, window.zone)
    day = change.before.date()
    hours = length_words(day_length(day, window.zone))
    turn = "forward" if change.jump > timedelta(0) else "back"
    return (
        f"The clocks go {turn} from {change.before:%H:%M} to {change.after:%H:%M} in this window: "
        f"{day:%a} {day.day} {day:%b} has {hours}, and the window lasts {length_words(window.length)}, "
        f"although the wall clock suggests {length_words(clock)}."
    )


def day_length(day: date, zone_name: str) -> timedelta:
    """From midnight to midnight in real time: 23, 24 or 25 hours, rarely something else."""
    place = zone(zone_name)
    start = datetime(day.year, day.month, day.day, tzinfo=place)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=place)
    return end.astimezone(UTC) - start.astimezone(UTC)


def overlap(one: Window, other: Window) -> bool:
    return one.starts < other.ends and other.starts < one.ends
