"""Counts that a sender made: taken as they are when they add up, refused with the place when they do not."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.profile import Baseline, profile_rows
from monitor.bases import Bases
from monitor.ingest.accept_counts import AcceptedCounts, accept_counts
from monitor.ingest.counted import CountedBatch, decode_counts
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.errors import IngestError
from monitor.ingest.posted_counts import MAX_SLOTS, open_counts, read_panes
from monitor.ingest.times import DAY, HOUR, MINUTE, TimeLimits, parse_time
from tests.monitor import frames
from tests.monitor.ingest.counts_bodies import body, pane

BASELINE, DAILY = frames.baseline(), frames.baseline(pane_seconds=86_400)
NOW = parse_time("2026-03-01T12:00:00Z")
START = NOW // 10**9 - 60
ROWS = frames.rows(5, 40)
ROWS["temp"][:3] = [np.nan, np.inf, -np.inf]
ROWS["carrier"][:3] = ["new", None, "UA"]
Change = Callable[[dict[str, Any]], None]


def take(
    message: dict[str, Any],
    baseline: Baseline = BASELINE,
    *,
    keys: Sequence[str] = (),
    watermark: int | None = None,
    sent: int | None = None,
) -> AcceptedCounts:
    opened = open_counts(json.dumps(message).encode(), DecodeLimits())
    return accept_counts(opened, baseline, keys, NOW, watermark, TimeLimits(), sent)


def stored(accepted: AcceptedCounts, baseline: Baseline = BASELINE) -> CountedBatch:
    assert accepted.counts is not None
    base = Bases().of(1, baseline)
    return decode_counts(
        accepted.counts.payload, baseline.fingerprint, lambda segment: base.of(segment).baseline.layout
    )


def whole() -> dict[str, Any]:
    return body(BASELINE, [pane(BASELINE, ROWS, START)])


def test_what_is_stored_is_what_the_rows_come_to() -> None:
    accepted = take(whole() | {"id": "b1", "parameters": {"driftd": 1, "seen": 50, "kept": 40}})
    assert (accepted.accepted, accepted.rejected, accepted.errors, accepted.warnings) == (40, 0, (), ())
    assert (accepted.id, accepted.parameters["seen"]) == ("b1", 50)
    counted = stored(accepted)
    (found,) = counted.panes
    expected = profile_rows(BASELINE, ROWS)
    np.testing.assert_array_equal(found.profile.counts, expected.counts)
    np.testing.assert_array_equal(found.profile.moments, expected.moments)
    assert (found.segment, found.start, found.rows_seen, found.profile.rows) == ("", START, 40, 40)
    assert counted.hours == {START // 3600 * 3600: 40}
    assert accepted.counts is not None
    assert (accepted.counts.first_ns, accepted.counts.last_ns) == (
        START * 10**9,
        START * 10**9 + 60 * 10**9 - 1,
    )


def test_a_long_pane_tells_its_hours() -> None:
    start = START // 86_400 * 86_400
    told = pane(
        DAILY, ROWS, start, hours=[[start, 10], [start + 7200, 30]], last=start * 10**9 + 8000 * 10**9
    )
    accepted = take(body(DAILY, [told]), DAILY)
    assert stored(accepted, DAILY).hours == {start: 10, start + 7200: 30}


def test_segments_are_counted_on_the_coarse_view_and_only_those_of_known_tags_are_kept() -> None:
    part = {name: values[:7] for name, values in ROWS.items()}
    panes = [
        pane(BASELINE, ROWS, START),
        pane(BASELINE, part, START, segment="region=eu", last=START * 10**9),
    ]
    kept = stored(take(body(BASELINE, panes), keys=["region"]))
    assert [(found.segment, found.profile.rows) for found in kept.panes] == [("", 40), ("region=eu", 7)]
    assert kept.rows == 40
    assert [found.segment for found in stored(take(body(BASELINE, panes), keys=["shop"])).panes] == [""]


def _at(*path: Any, to: Any) -> Change:
    def change(message: dict[str, Any]) -> None:
        place: Any = message
        for step in path[:-1]:
            place = place[step]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to(place[path[-1]]) if callable(to) else to

    return change


P, TEMP, CITY, SURE = (
    ("panes", 0),
    ("panes", 0, "columns", 0),
    ("panes", 0, "columns", 1),
    ("panes", 0, "columns", 2),
)
FAULTS: Sequence[tuple[Change, str]] = [
    (_at("model_version", to=None), "/model_version"),
    (_at("model_version", to=""), "/model_version"),
    (_at("fingerprint", to=7), "/fingerprint"),
    (_at("panes", to=[]), "/panes"),
    (_at("panes", to=lambda panes: panes * 10_001), "/panes"),
    (_at("panes", to=lambda panes: panes * 2), "/panes/1"),
    (_at("id", to=""), "/id"),
    (_at("id", to="anon-1"), "/id"),
    (_at("extra", to=1), "/extra"),
    (_at("parameters", to={"driftd": 2}), "/parameters/driftd"),
    (_at("parameters", to={"dropped": -1}), "/parameters/dropped"),
    (_at("parameters", to={"sent_at": "noon"}), "/parameters/sent_at"),
    (_at(*P, "start", to=lambda start: start + 1), "/panes/0/start"),
    (_at(*P, "start", to=60 * 10**16), "/panes/0/start"),
    (_at(*P, "start", to="now"), "/panes/0/start"),
    (_at(*P, "rows", to=0), "/panes/0/rows"),
    (_at(*P, "rows", to=-5), "/panes/0/rows"),
    (_at(*P, "rows", to=10**12 + 1), "/panes/0/rows"),
    (_at(*P, "rows", to=39), "/panes/0/columns/0/counts"),
    (_at(*P, "rows", to=41), "/panes/0/rows_seen"),
    (_at(*P, "rows_seen", to=39), "/panes/0/rows_seen"),
    (_at(*P, "rows_seen", to=10**13), "/panes/0/rows_seen"),
    (_at(*P, "first", to=lambda first: first - 1), "/panes/0/first"),
    (_at(*P, "last", to=lambda last: last + 1), "/panes/0/last"),
    (_at(*P, "last", to=START * 10**9 - 1), "/panes/0/last"),
    (_at(*P, "hours", to=[[START, 40]]), "/panes/0/hours"),
    (_at(*P, "segment", to="region"), "/panes/0/segment"),
    (_at(*P, "segment", to="=eu"), "/panes/0/segment"),
    (_at(*P, "segment", to="region="), "/panes/0/segment"),
    (_at(*P, "segment", to="region=" + "x" * 500), "/panes/0/segment"),
    (_at(*P, "segment", to="region=\x00"), "/panes/0/segment"),
    (_at(*P, "columns", to=lambda columns: columns[:2]), "/panes/0/columns"),
    (_at(*P, "columns", to=lambda columns: columns[::-1]), "/panes/0/columns/0/name"),
    (_at(*TEMP, "name", to="heat"), "/panes/0/columns/0/name"),
    (_at(*TEMP, "gaps", to=lambda gaps: gaps[:-1]), "/panes/0/columns/0/counts"),
    (_at(*TEMP, "gaps", 0, to=-1), "/panes/0/columns/0/gaps/0"),
    (_at(*TEMP, "gaps", 1, to=0), "/panes/0/columns/0/gaps/1"),
    (_at(*TEMP, "gaps", 2, to=10**6), "/panes/0/columns/0/gaps/2"),
    (_at(*TEMP, "gaps", 2, to=2**62), "/panes/0/columns/0/gaps/2"),
    (_at(*TEMP, "gaps", 2, to=2**70), "/panes/0/columns/0/gaps"),
    (_at(*TEMP, "gaps", 2, to=1.5), "/panes/0/columns/0/gaps/2"),
    (_at(*TEMP, "counts", 1, to=-1), "/panes/0/columns/0/counts/1"),
    (_at(*TEMP, "counts", 1, to=41), "/panes/0/columns/0/counts/1"),
    (_at(*TEMP, "counts", 1, to=lambda count: count + 1), "/panes/0/columns/0/counts"),
    (_at(*TEMP, "counts", 1, to=True), "/panes/0/columns/0/counts/1"),
    (_at(*TEMP, "counts", -1, to=4), "/panes/0/columns/0/counts"),
    (_at(*TEMP, "mean", to=None), "/panes/0/columns/0/mean"),
    (_at(*TEMP, "m2", to=None), "/panes/0/columns/0/m2"),
    (_at(*TEMP, "mean", to=1e200), "/panes/0/columns/0/mean"),
    (_at(*TEMP, "m2", to=-1e-9), "/panes/0/columns/0/m2"),
    (_at(*TEMP, "mean", to="warm"), "/panes/0/columns/0/mean"),
    (_at(*CITY, "mean", to=1.0), "/panes/0/columns/1/mean"),
    (_at(*CITY, "counts", 0, to=lambda count: count - 1), "/panes/0/columns/1/counts"),
    (_at(*SURE, "counts", -1, to=40 * 2**32 + 1), "/panes/0/columns/2/counts"),
    (_at(*SURE, "counts", -1, to=-1), "/panes/0/columns/2/counts"),
    (_at(*SURE, "mean", to=7.0), "/panes/0/columns/2/mean"),
    (_at(*SURE, "m2", to=1e6), "/panes/0/columns/2/m2"),
]


@pytest.mark.parametrize(("change", "pointer"), FAULTS)
def test_a_fault_is_refused_with_its_place(change: Change, pointer: str) -> None:
    message = whole() | {"id": "b1", "parameters": {}}
    change(message)
    with pytest.raises(IngestError) as refused:
        take(message)
    assert refused.value.status == 422
    assert refused.value.issues[0].pointer.startswith(pointer)


HOURS = START // 86_400 * 86_400
LONG_FAULTS: Sequence[Any] = [
    None,
    [],
    [[HOURS, 39]],
    [[HOURS, 41], [HOURS + 3600, -1]],
    [[HOURS, 20], [HOURS, 20]],
    [[HOURS + 1, 40]],
    [[HOURS + 86_400, 40]],
    [[HOURS - 3600, 40]],
]


@pytest.mark.parametrize("hours", LONG_FAULTS)
def test_hours_that_are_not_those_of_the_pane_are_refused(hours: Any) -> None:
    told = pane(DAILY, ROWS, HOURS) | ({} if hours is None else {"hours": hours})
    with pytest.raises(IngestError) as refused:
        take(body(DAILY, [told]), DAILY)
    assert refused.value.issues[0].pointer == "/panes/0/hours"


def test_a_segment_with_more_rows_than_its_pane_is_refused() -> None:
    few = {name: values[:5] for name, values in ROWS.items()}
    panes = [pane(BASELINE, few, START), pane(BASELINE, ROWS, START, segment="region=eu")]
    for number, given_panes in ((1, panes), (0, panes[1:])):
        with pytest.raises(IngestError) as refused:
            take(body(BASELINE, given_panes), keys=["region"])
        assert refused.value.issues[0].pointer == f"/panes/{number}/segment"


def test_more_slots_than_the_daemon_has_room_for_are_refused_before_they_take_any() -> None:
    length = BASELINE.layout.length
    panes = [pane(BASELINE, ROWS, START) | {"start": START + 60 * number} for number in range(2)]
    opened = open_counts(json.dumps(body(BASELINE, panes)).encode(), DecodeLimits())
    many = replace(opened, panes=[opened.panes[0]] * (MAX_SLOTS // length + 1))
    with pytest.raises(IngestError) as refused:
        read_panes(many, BASELINE, ())
    assert (refused.value.issues[0].pointer, "send fewer" in refused.value.detail) == ("/panes", True)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"\xff{}", b'{"model_version": "1", "model_version": "1"}', b"\xef\xbb\xbf{}"],
)
def test_what_is_no_json_object_with_each_key_once_is_malformed(raw: bytes) -> None:
    with pytest.raises(IngestError):
        open_counts(raw, DecodeLimits())


@pytest.mark.parametrize("where", ["", "panes", "columns"])
def test_a_key_that_comes_twice_is_refused_wherever_it_is(where: str) -> None:
    text = json.dumps(whole())
    doubled = {
        "": text.replace('"fingerprint"', '"model_version": "1", "fingerprint"', 1),
        "panes": text.replace('"rows_seen"', '"rows": 40, "rows_seen"', 1),
        "columns": text.replace('"gaps"', '"name": "temp", "gaps"', 1),
    }[where]
    with pytest.raises(IngestError, match="twice"):
        open_counts(doubled.encode(), DecodeLimits())


def at(offset_ns: int) -> dict[str, Any]:
    return pane(BASELINE, ROWS, (NOW + offset_ns) // 10**9 // 60 * 60)


def test_panes_outside_the_accepted_span_are_rejected_one_by_one() -> None:
    panes = [at(-25 * HOUR), at(-23 * HOUR), at(0), at(7 * MINUTE)]
    accepted = take(body(BASELINE, panes), watermark=NOW)
    assert (accepted.accepted, accepted.rejected) == (80, 80)
    assert [issue.pointer for issue in accepted.errors] == ["/panes/0/start", "/panes/3/start"]
    assert "before the oldest" in accepted.errors[0].detail
    assert "beyond the latest" in accepted.errors[1].detail
    assert stored(accepted).rows == 80


def test_a_batch_of_which_every_pane_is_too_old_is_not_stored() -> None:
    accepted = take(body(BASELINE, [at(-30 * DAY)]), watermark=NOW)
    assert (accepted.counts, accepted.accepted, accepted.rejected) == (None, 0, 40)


def test_before_its_first_batch_a_model_takes_what_is_years_old() -> None:
    assert take(body(BASELINE, [at(-700 * DAY)])).accepted == 40


def test_a_clock_that_is_hours_off_is_corrected_by_whole_panes() -> None:
    off = 3 * HOUR + 41 * 10**9
    accepted = take(body(BASELINE, [at(off)]), watermark=NOW, sent=NOW + off)
    assert accepted.accepted == 40
    assert [issue.pointer for issue in accepted.warnings] == ["/parameters/sent_at"]
    (found,) = stored(accepted).panes
    assert found.start % 60 == 0
    assert abs(found.start * 10**9 - NOW) <= 60 * 10**9
    assert accepted.counts is not None
    assert found.start <= accepted.counts.first_ns // 10**9 < found.start + 60


def test_hours_move_with_their_pane() -> None:
    told = pane(DAILY, ROWS, HOURS + 2 * 86_400, hours=[[HOURS + 2 * 86_400 + 7200, 40]])
    moved = stored(take(body(DAILY, [told]), DAILY, sent=NOW + 2 * DAY), DAILY)
    assert [found.start for found in moved.panes] == [HOURS]
    assert moved.hours == {HOURS + 7200: 40}


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_every_pane_of_real_rows_adds_up(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    values = frames.rows(seed, rows)
    values["temp"][rng.random(rows) < 0.2] = rng.choice([np.nan, np.inf, -np.inf, 3e38, 0.0])
    values["confidence"][rng.random(rows) < 0.2] = rng.choice([np.nan, 2.0, -1.0])
    message = body(BASELINE, [pane(BASELINE, values, START)])
    (read,) = read_panes(open_counts(json.dumps(message).encode(), DecodeLimits()), BASELINE, ())
    expected = profile_rows(BASELINE, values)
    np.testing.assert_array_equal(read.counted.profile.counts, expected.counts)
