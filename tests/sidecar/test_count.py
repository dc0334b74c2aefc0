"""What is counted on the device is what the daemon counts of the same rows, integer by integer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from detectors.coarse import coarsen
from detectors.profile import Baseline, ConfidenceRule, Profile, profile_rows
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._cells import NumericCells, parse
from driftd_sidecar._count import SEGMENTS, Counter, Pane, merged
from driftd_sidecar._frame import RefusedError, distinct_numbers, frame
from driftd_sidecar._notices import Notices
from driftd_sidecar._wire import Envelope, Table, Told, encode
from monitor.ingest.accept import accept
from monitor.ingest.cell_document import encode_cells
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import open_body
from monitor.ingest.errors import UnprocessableError
from monitor.ingest.frame import frame as daemon_frame
from monitor.ingest.schema import VersionHandle
from monitor.ingest.times import TimeLimits
from tests.sidecar import counting

NOW = 1_767_225_600_000_000_000  # a whole minute
ENVELOPE = Envelope(id="b", model_version="1", sent_at_ns=NOW, books=Told(kept=1, dropped=0, sample_rate=1.0))


def table_of(inputs: Mapping[str, Any], outputs: Mapping[str, Any], **labels: Any) -> Table:
    """The rows as the sidecar would ship them."""
    calls = capture(inputs, outputs, **{"time_ns": NOW, **labels})
    (table,) = CallRecipe(notices=Notices(), tags={}).tables([(call,) for call in calls])
    return table


def by_daemon(table: Table, baseline: Baseline) -> tuple[dict[str, Any], Any]:
    """The rows as the daemon's frame and their times, after the way through the wire."""
    body, header = encode(table, ENVELOPE)
    version = VersionHandle(version_id=1, version="1", baseline=baseline)
    decoded = decode_body(open_body(body, header, DecodeLimits()), baseline)
    taken = accept(decoded, version, NOW, None, TimeLimits())
    assert taken.batch is not None
    return dict(daemon_frame([taken.batch], baseline)), taken.batch


def by_sidecar(table: Table, baseline: Baseline, keys: Sequence[str] = (), rate: float = 1.0) -> list[Pane]:
    cells = parse(encode_cells(baseline, keys))
    return Counter(cells).count(frame(table, cells), rate)


def check(pane: Pane, expected: Profile) -> None:
    """The pane holds exactly these counts, and these moments but for the order of their sums."""
    counts = np.zeros_like(expected.counts)
    counts[pane.slots] = pane.counts
    np.testing.assert_array_equal(counts, expected.counts)
    assert pane.rows == expected.rows
    np.testing.assert_array_equal(pane.moments[:, 0], expected.moments[:, 0])
    np.testing.assert_allclose(pane.moments, expected.moments, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [None, *counting.KINDS])
@pytest.mark.parametrize("rows", [1, 700])
def test_every_type_is_counted_as_the_daemon_counts_it(kind: Any, rows: int) -> None:
    rule = None if kind is None else ConfidenceRule(kind=kind, tensor="p")
    baseline = counting.baseline(rule)
    rng = np.random.default_rng(rows)
    table = table_of(counting.inputs(rng, max(rows, 10)), counting.outputs(rng, max(rows, 10), kind))
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))
    assert pane.hours == {NOW // 10**9: max(rows, 10)}


def test_cuts_are_compared_in_the_width_that_holds_them() -> None:
    cells = parse(encode_cells(counting.baseline(), ()))
    narrow = {each.name: each.narrow is not None for each in cells.columns if isinstance(each, NumericCells)}
    assert narrow["f4"]
    assert not narrow["f8"]


OTHER_DTYPES: Sequence[tuple[str, Any]] = [
    ("f4", np.float64), ("f8", np.float64), ("i1", np.int64), ("i2", np.float32), ("i8", np.float32),
    ("u1", np.int32), ("u2", np.uint64), ("flag", np.float32), ("flag", np.uint8), ("f2", np.float32),
    ("grade", np.float32), ("city", np.int64), ("truth", np.int8), ("u8", np.int16),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), OTHER_DTYPES)
def test_a_column_in_another_dtype_is_rounded_as_the_daemon_does(name: str, dtype: Any) -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(5)
    given = counting.inputs(rng, 300)
    spread = rng.integers(0, 2 if name in ("flag", "truth") else 120, 300)
    given[name] = (spread / (1 if np.dtype(dtype).kind != "f" else 4)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        given[name][::17] = np.nan
    table = table_of(given, counting.outputs(rng, 300, None))
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))


@pytest.mark.parametrize("kind", counting.KINDS)
@pytest.mark.parametrize("shape", ["ints", "text", "wide", "absent"])
def test_a_confidence_from_an_unusual_output_is_what_the_daemon_makes_of_it(kind: Any, shape: str) -> None:
    baseline = counting.baseline(ConfidenceRule(kind=kind, tensor="p"))
    rng = np.random.default_rng(6)
    odd: Mapping[str, Any] = {
        "ints": {"p": rng.integers(0, 2, (90, 1))},
        "text": {"p": np.array(["a"] * 90, object)},
        "wide": {"p": rng.random((90, 2))},
        "absent": {},
    }
    table = table_of(counting.inputs(rng, 90), {"label": rng.integers(0, 3, 90), **odd[shape]})
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))


def test_outputs_under_the_names_of_their_roles_are_found() -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(7)
    table = table_of(
        counting.inputs(rng, 50), {"prediction": rng.integers(0, 3, 50), "confidence": rng.random(50)}
    )
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))


def test_outputs_that_are_not_there_count_as_missing() -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(7)
    table = table_of(counting.inputs(rng, 50), {})
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))


def test_zipmap_outputs_are_counted_like_the_tensor_they_become() -> None:
    baseline = counting.baseline(ConfidenceRule(kind="probabilities", tensor="p"))
    rng = np.random.default_rng(8)
    maps = [{"a": float(x), "b": float(1 - x)} for x in rng.random(60)]
    table = table_of(counting.inputs(rng, 60), {"label": rng.integers(0, 3, 60), "p": maps})
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))


@pytest.mark.parametrize("pane_seconds", [60, 86_400])
def test_rows_of_many_panes_and_segments(pane_seconds: int) -> None:
    baseline = counting.baseline(pane_seconds=pane_seconds)
    rng = np.random.default_rng(9)
    rows = 400
    times = NOW - rng.integers(0, 3 * pane_seconds, rows) * 10**9
    regions = [("eu", "us", "", "ü" * 300)[int(each)] for each in rng.integers(0, 4, rows)]
    table = table_of(
        counting.inputs(rng, rows),
        counting.outputs(rng, rows, None),
        time_ns=times,
        tags={"region": regions, "other": "x"},
    )
    values, batch = by_daemon(table, baseline)
    found = by_sidecar(table, baseline, keys=["region", "shop"], rate=0.25)
    coarse = coarsen(baseline)
    expected: dict[tuple[str, int], Profile] = {}
    starts = times // 10**9 // pane_seconds * pane_seconds
    for start in np.unique(starts).tolist():
        for segment in ("", "region=eu", "region=us", "region=" + "ü" * 200):
            chosen = starts == start
            if segment:
                chosen &= np.array([text[:200] == segment[7:] for text in regions])
            picked = {name: array[chosen] for name, array in values.items()}
            if chosen.any():
                expected[segment, start] = profile_rows(coarse if segment else baseline, picked)
    assert [(pane.segment, pane.start) for pane in found if not pane.segment] == [
        ("", start) for start in np.unique(starts).tolist()
    ]
    assert {(pane.segment, pane.start) for pane in found} == set(expected)
    for pane in found:
        check(pane, expected[pane.segment, pane.start])
        assert pane.seen == 4 * pane.rows
        inside = batch.times_ns[starts == pane.start]
        if not pane.segment:
            assert (pane.first_ns, pane.last_ns) == (inside.min(), inside.max())
            hours = np.unique(inside // (3600 * 10**9), return_counts=True)
            assert pane.hours == dict(zip((hours[0] * 3600).tolist(), hours[1].tolist(), strict=True))


def test_panes_that_are_merged_hold_what_one_count_of_all_rows_holds() -> None:
    baseline, rng = counting.baseline(pane_seconds=86_400), np.random.default_rng(10)
    cells = parse(encode_cells(baseline, ()))
    counter = Counter(cells)
    given, said = counting.inputs(rng, 500), counting.outputs(rng, 500, None)
    total: Pane | None = None
    for first, rate in ((0, 1.0), (120, 0.5), (121, 1.0), (400, 0.25)):
        last = {0: 120, 120: 121, 121: 400, 400: 500}[first]
        part = table_of(
            {name: each[first:last] for name, each in given.items()},
            {name: each[first:last] for name, each in said.items()},
            time_ns=NOW + first * 10**10,
        )
        (pane,) = counter.count(frame(part, cells), rate)
        if total is None:
            total = pane
        else:
            merged(total, pane)
    assert total is not None
    values, _ = by_daemon(table_of(given, said), baseline)
    check(total, profile_rows(baseline, values))
    assert total.seen == 120 + 2 + 279 + 400
    assert (total.first_ns, total.last_ns) == (NOW, NOW + 4 * 10**12)
    assert total.hours == {NOW // 10**9: 121 + 279, NOW // 10**9 + 3600: 100}
    assert (np.diff(total.slots) > 0).all()


def test_fifty_values_of_tags_get_panes_and_no_more() -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(12)
    users = [f"user {row}" for row in range(80)]
    table = table_of(counting.inputs(rng, 80), counting.outputs(rng, 80, None), tags={"user": users})
    counter = Counter(parse(encode_cells(baseline, ["user"])))
    for _ in range(2):
        found = counter.count(frame(table, counter.cells), 1.0)
        assert [pane.rows for pane in found] == [80] + [1] * SEGMENTS


REFUSED: Sequence[tuple[str, Any, str]] = [
    ("x", np.zeros((40, 3), np.float32), "3 values per row, the baseline has 5"),
    ("f8", np.zeros(40, np.float32), "FP32 cannot represent"),
    ("i4", np.zeros(40, np.int8), "INT8 cannot represent"),
    ("f4", np.zeros(40, np.bool_), "BOOL cannot represent"),
    ("u8", np.zeros(40, np.uint8), "UINT8 cannot represent"),
    ("f4", np.array(["1"] * 40, object), "numeric"),
    ("note", np.zeros(40, np.float32), "is text; send BYTES"),
    ("city", None, "'city' is missing"),
    ("label", np.zeros(40, np.int64), "two tensors are named 'label'"),
]


@pytest.mark.parametrize(("name", "values", "reason"), REFUSED)
def test_what_the_daemon_would_refuse_is_refused_for_the_same_reason(
    name: str, values: Any, reason: str
) -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(13)
    given = counting.inputs(rng, 40)
    if values is None:
        del given[name]
    else:
        given[name] = values
    table = table_of(given, counting.outputs(rng, 40, None))
    with pytest.raises(UnprocessableError):
        by_daemon(table, baseline)
    with pytest.raises(RefusedError, match=reason):
        by_sidecar(table, baseline)


@pytest.mark.parametrize("where", ["city", "note", "tag", "id"])
def test_rows_whose_text_is_none_are_left_out_as_the_daemon_rejects_them(where: str) -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(14)
    given, labels = counting.inputs(rng, 30), dict[str, Any]()
    texts: list[Any] = [f"t{row}" for row in range(30)]
    texts[3], texts[7], texts[8] = b"\xff", "a\x00b", "ü\x00"
    if where == "tag":
        labels = {"tags": {"region": texts}}
    elif where == "id":
        labels = {"request_id": texts}
    else:
        given[where] = np.array(texts, object)
    table = table_of(given, counting.outputs(rng, 30, None), **labels)
    values, batch = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    assert batch.rows == pane.rows == 27
    check(pane, profile_rows(baseline, values))


def test_rows_of_which_none_is_text_make_no_pane() -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(15)
    table = table_of(counting.inputs(rng, 10), counting.outputs(rng, 10, None), request_id="\x00")
    assert by_sidecar(table, baseline) == []


@pytest.mark.parametrize("classes", [2, 100])
def test_the_greatest_of_few_and_of_many_probabilities_is_the_daemons(classes: int) -> None:
    baseline = counting.baseline(ConfidenceRule(kind="probabilities", tensor="p"))
    rng = np.random.default_rng(16)
    share = rng.dirichlet(np.ones(classes), 80).astype(np.float32)
    share[::7, 1] = np.nan
    table = table_of(counting.inputs(rng, 80), {"label": rng.integers(0, 3, 80), "p": share})
    values, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, values))


LABELS: Sequence[tuple[str, Any]] = [
    ("int8", [-128, 127, 3]), ("int64", [-(2**63), 2**63 - 1, 3]), ("int64", [2**63 - 3, 2**63 - 1, 2**63 - 3]),
    ("uint64", [2**64 - 1, 2**64 - 4000, 2**64 - 1]), ("uint8", [255, 0, 3]), ("int32", [-4, 3, 69]),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "values"), LABELS)
def test_integers_that_are_categories_are_told_apart_wherever_they_lie(dtype: str, values: Any) -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(17)
    given = counting.inputs(rng, 60)
    given["grade"] = np.array(values * 20, dtype)
    table = table_of(given, counting.outputs(rng, 60, None))
    expected, _ = by_daemon(table, baseline)
    (pane,) = by_sidecar(table, baseline)
    check(pane, profile_rows(baseline, expected))
    names, which = distinct_numbers(np.array(values * 20, dtype))
    assert [names[each] for each in which.tolist()] == values * 20


def test_tables_of_ever_other_dtypes_are_counted_alike() -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(18)
    counter = Counter(parse(encode_cells(baseline, ())))
    given, said = counting.inputs(rng, 40), counting.outputs(rng, 40, None)
    for wider in (set[str](), {"f4", "f2"}, {"i1"}, {"u1"}, {"i2"}, {"u2"}, {"i1", "u2"}, set[str]()):
        table = table_of(
            {name: each.astype(np.float64) if name in wider else each for name, each in given.items()}, said
        )
        values, _ = by_daemon(table, baseline)
        (pane,) = counter.count(frame(table, counter.cells), 1.0)
        check(pane, profile_rows(baseline, values))
