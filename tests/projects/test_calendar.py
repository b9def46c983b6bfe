"""Windows across the nights on which the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import calendar
from projects.calendar import CalendarProblem, Window

# Both nights of 2027 in two zones: zone, missing local time, doubled local time.
NIGHTS = [
    ("Europe/Zurich", "2027-03-28T02:30", "2027-10-31T02:30"),
    ("America/New_York", "2027-03-14T02:30", "2027-11-07T01:30"),
]


def resolve(text: str, zone: str, which: str = "") -> datetime:
    return calendar.resolve(calendar.parse_local(text), zone, which)


@pytest.mark.parametrize(("zone", "missing", "_twice"), NIGHTS)
def test_a_time_that_the_clocks_leave_out_is_refused(zone: str, missing: str, _twice: str) -> None:
    with pytest.raises(CalendarProblem) as caught:
        resolve(missing, zone)
    assert caught.value.code == "calendar.missing"
    assert zone in caught.value.text
    assert "from 02:00 to 03:00" in caught.value.text
    assert "before 02:00 or from 03:00 on" in caught.value.act


@pytest.mark.parametrize(("zone", "_missing", "twice"), NIGHTS)
def test_a_time_that_comes_twice_must_be_chosen(zone: str, _missing: str, twice: str) -> None:
    with pytest.raises(CalendarProblem) as caught:
        resolve(twice, zone)
    assert caught.value.code == "calendar.twice"
    first, second = resolve(twice, zone, "first"), resolve(twice, zone, "second")
    assert second - first == timedelta(hours=1)
    assert (calendar.which_of(first, zone), calendar.which_of(second, zone)) == ("first", "second")
    for moment in (first, second):
        assert calendar.input_value(moment, zone) == twice


def test_hours_beside_the_change_are_plain() -> None:
    assert resolve("2027-03-28T01:59", "Europe/Zurich") == datetime(2027, 3, 28, 0, 59, tzinfo=UTC)
    assert resolve("2027-03-28T03:00", "Europe/Zurich") == datetime(2027, 3, 28, 1, 0, tzinfo=UTC)
    assert resolve("2027-10-31T01:59", "Europe/Zurich") == datetime(2027, 10, 30, 23, 59, tzinfo=UTC)
    assert resolve("2027-10-31T03:00", "Europe/Zurich") == datetime(2027, 10, 31, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("starts", "ends", "length", "day", "turn"),
    [
        ("2027-03-27T22:00", "2027-03-28T06:00", "7 h", "Sun 28 Mar has 23 h", "forward"),
        ("2027-10-30T22:00", "2027-10-31T06:00", "9 h", "Sun 31 Oct has 25 h", "back"),
    ],
)
def test_a_window_over_the_night_says_its_real_length(starts: str, ends: str, length: str, day: str, turn: str) -> None:
    window = Window(resolve(starts, "Europe/Zurich"), resolve(ends, "Europe/Zurich"), "Europe/Zurich")
    said = calendar.dst_words(window)
    assert f"clocks go {turn}" in said
    assert day in said
    assert f"lasts {length}, although the wall clock suggests 8 h" in said
    assert calendar.window_words(window).endswith(f", {length}")


def test_a_plain_window_says_nothing_about_clocks() -> None:
    zone = "Europe/Zurich"
    window = Window(resolve("2026-11-28T22:00", zone), resolve("2026-11-29T04:30", zone), zone)
    assert calendar.dst_words(window) == ""
    assert calendar.window_words(window) == (
        "Sat 28 Nov 2026 22:00 CET to Sun 29 Nov 2026 04:30 CET (Europe/Zurich), 6 h 30 min"
    )


def test_a_zone_with_half_an_hour_of_change() -> None:
    with pytest.raises(CalendarProblem, match="from 02:00 to 02:30"):
        resolve("2027-10-03T02:10", "Australia/Lord_Howe")
    assert calendar.day_length(date(2027, 10, 3), "Australia/Lord_Howe") == timedelta(hours=23, minutes=30)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-11-28", "2026-11-28T25:00", "2026-11-28T22:00+01:00"])
def test_what_is_not_a_local_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CalendarProblem) as caught:
        calendar.parse_local(text)
    assert "2026-11-28T22:00" in caught.value.act


@pytest.mark.parametrize("name", ["", "Europe/Atlantis", "../etc/passwd", "CET/../x"])
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(CalendarProblem) as caught:
        calendar.zone(name)
    assert caught.value.code == "calendar.zone"
    assert f"“{name}”" in caught.value.text


def test_overlap_excludes_windows_that_only_touch() -> None:
    hour = timedelta(hours=1)
    start = datetime(2026, 11, 28, tzinfo=UTC)
    one = Window(start, start + hour, "UTC")
    assert not calendar.overlap(one, Window(start + hour, start + 2 * hour, "UTC"))
    assert calendar.overlap(one, Window(start + hour / 2, start + 2 * hour, "UTC"))


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2029, 12, 31)).map(lambda each: each.replace(second=0, microsecond=0)),
    st.sampled_from(["Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]),
)
def test_whatever_resolves_reads_back_as_it_was_written(local: datetime, zone: str) -> None:
    try:
        moment = calendar.resolve(local, zone)
    except CalendarProblem as problem:
        assert problem.code in ("calendar.missing", "calendar.twice")
        return
    assert calendar.to_local(moment, zone) == local
    assert calendar.which_of(moment, zone) == ""
