"""Models, versions, baselines and calibrations: facts that are filled in but never changed."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from storage import baselines, models
from storage.errors import Immutable, NotFound, StorageError
from storage.models import Serving
from tests.storage.conftest import START, after


def test_a_model_is_registered_once(conn: Connection) -> None:
    first = models.ensure_model(conn, "credit", now=START)
    assert models.ensure_model(conn, "credit", now=after(60)) == first
    assert first.created_at == START
    other = models.ensure_model(conn, "bread", now=START)
    assert [model.name for model in models.list_models(conn)] == ["bread", "credit"]
    assert models.get_model(conn, "bread") == other
    assert models.get_model(conn, "none") is None


def test_what_is_not_known_of_a_version_is_filled_in_later(conn: Connection) -> None:
    model = models.ensure_model(conn, "credit", now=START)
    seen = models.ensure_version(conn, model.id, "v1", now=START)
    assert (seen.stage, seen.artefact_sha256, seen.registered_at) == ("production", None, START)
    known = models.ensure_version(
        conn, model.id, "v1", now=after(5), artefact_sha256="ab", commit="c0ffee", stage="shadow"
    )
    assert (known.id, known.registered_at) == (seen.id, START)
    assert (known.artefact_sha256, known.commit, known.run, known.stage) == ("ab", "c0ffee", None, "shadow")
    assert models.ensure_version(conn, model.id, "v1", now=after(9)) == known
    assert models.list_versions(conn, model.id) == [known] == models.list_versions(conn)


def test_a_version_is_one_artefact(conn: Connection) -> None:
    model = models.ensure_model(conn, "credit", now=START)
    models.ensure_version(conn, model.id, "v1", now=START, artefact_sha256="ab")
    with pytest.raises(Immutable, match="version 'v1' has artefact_sha256 'ab', not 'cd'"):
        models.ensure_version(conn, model.id, "v1", now=START, artefact_sha256="cd")


def test_an_unknown_stage_is_refused_with_the_known_ones(conn: Connection, version_id: int) -> None:
    with pytest.raises(StorageError, match="stage 'canary': choose one of production, candidate, shadow"):
        models.ensure_version(conn, 1, "v1", now=START, stage="canary")


def test_a_version_compares_with_a_baseline_of_its_own_only(
    conn: Connection, version_id: int, add_baseline: Callable[[str], int]
) -> None:
    mine = add_baseline("a" * 64)
    other = models.ensure_version(conn, 1, "v2", now=START)
    models.set_baseline(conn, version_id, mine)
    assert models.get_version_by_id(conn, version_id).baseline_id == mine
    for wrong in (mine, 4711):
        with pytest.raises(NotFound, match=f"model version {other.id} has no baseline with id {wrong}"):
            models.set_baseline(conn, other.id, wrong)
    with pytest.raises(NotFound, match="no model version with id 4711"):
        models.get_version_by_id(conn, 4711)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(added=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**12)), max_size=8))
def test_servings_add_up_whatever_the_grouping(
    conn: Connection, version_id: int, added: list[tuple[int, int]]
) -> None:
    with conn.begin_nested() as savepoint:
        rows = [
            Serving(model_id=1, version_id=version_id, start=hour * 3600, rows=count) for hour, count in added
        ]
        models.record_serving(conn, rows[:3])
        models.record_serving(conn, rows[3:])
        sums: dict[int, int] = {}
        for hour, count in added:
            sums[hour * 3600] = sums.get(hour * 3600, 0) + count
        found = models.list_servings(conn, 1, start=0, end=4 * 3600)
        assert [(serving.start, serving.rows) for serving in found] == sorted(sums.items())
        assert models.list_servings(conn, 1, start=3600, end=3600) == []
        savepoint.rollback()


def test_the_same_baseline_twice_is_one(
    conn: Connection, version_id: int, add_baseline: Callable[[str], int]
) -> None:
    first, second = add_baseline("a" * 64), add_baseline("b" * 64)
    assert add_baseline("a" * 64) == first != second
    assert baselines.get_blob(conn, first) == b"profile " + b"a" * 64
    facts = baselines.get(conn, first)
    assert (facts.source, facts.rows, facts.pane_seconds, facts.created_at) == ("training", 1000, 60, START)
    assert [row.id for row in baselines.list_baselines(conn, version_id)] == [first, second]
    assert baselines.list_baselines(conn, 4711) == []
    for read in (baselines.get, baselines.get_blob):
        with pytest.raises(NotFound, match="no baseline with id 4711"):
            read(conn, 4711)


def test_a_calibration_is_in_force_from_its_time_until_the_next(
    conn: Connection, version_id: int, baseline_id: int
) -> None:
    def calibrate(valid_from: int, blob: bytes, segment: str = "") -> int:
        return baselines.add_calibration(
            conn,
            baselines.NewCalibration(
                version_id=version_id,
                baseline_id=baseline_id,
                segment=segment,
                valid_from=valid_from,
                source="live traffic",
                span_start=0,
                span_end=valid_from,
                blob=blob,
            ),
        )

    calibrate(100, b"first")
    calibrate(200, b"second")
    calibrate(200, b"corrected")
    calibrate(150, b"elsewhere", segment="region=eu")

    def at(time: int, segment: str = "") -> bytes | None:
        found = baselines.calibration_at(conn, baseline_id, segment, time)
        return None if found is None else found.blob

    assert [at(99), at(100), at(199), at(200), at(10**9)] == [
        None,
        b"first",
        b"first",
        b"corrected",
        b"corrected",
    ]
    assert [at(149, "region=eu"), at(150, "region=eu")] == [None, b"elsewhere"]
    assert [row.blob for row in baselines.list_calibrations(conn, baseline_id, "")] == [
        b"first",
        b"second",
        b"corrected",
    ]
    assert len(baselines.list_calibrations(conn, baseline_id)) == 4


def test_rows_by_hour_are_those_of_all_versions(conn: Connection, version_id: int) -> None:
    other = models.ensure_version(conn, 1, "v2", now=START)
    stranger = models.ensure_model(conn, "bread", now=START)
    models.record_serving(
        conn,
        [
            Serving(model_id=1, version_id=version_id, start=0, rows=5),
            Serving(model_id=1, version_id=version_id, start=3600, rows=7),
            Serving(model_id=1, version_id=other.id, start=3600, rows=2),
            Serving(model_id=1, version_id=other.id, start=7200, rows=1),
            Serving(model_id=stranger.id, version_id=version_id, start=3600, rows=100),
        ],
    )
    assert models.rows_by_hour(conn, 1, start=0, end=7200) == [(0, 5), (3600, 9)]
    assert models.rows_by_hour(conn, 1, start=3600, end=10**9) == [(3600, 9), (7200, 1)]
