"""Which pages are the same page, and what is said of those that are not."""

from datetime import UTC, datetime, timedelta

import pytest

from monitor.backtest.comparing import Page, compare

START = datetime(2026, 3, 1, tzinfo=UTC)


def page(
    at: int,
    until: int | None,
    *,
    real: bool,
    column: str = "x",
    segment: str = "",
    severity: str = "critical",
) -> Page:
    return Page(
        version="1",
        segment=segment,
        column=column,
        severity=severity,
        at=START + timedelta(hours=at),
        until=None if until is None else START + timedelta(hours=until),
        detector="ks",
        window_seconds=3600,
        statistic=0.5,
        threshold=0.2,
        evidence=2.0,
        alert=7 if real else None,
    )


@pytest.mark.parametrize(
    ("real", "replayed", "said"),
    [
        ([(1, 5)], [(1, 5)], []),
        ([(1, 5)], [(1, 9)], []),  # it ends at another time: nobody is paged for that
        ([(1, None)], [(3, None)], [("later", 2.0)]),
        ([(4, 6)], [(1, 5)], [("earlier", -3.0)]),
        ([(1, 5)], [(6, 9)], [("vanishes", None), ("appears", None)]),
        ([(1, 3), (5, 7)], [(1, 7)], [("vanishes", None)]),  # one long page where there were two
        ([(1, 7)], [(1, 3), (5, 7)], [("appears", None)]),
        ([], [(1, 2)], [("appears", None)]),
    ],
)
def test_pages_of_one_column_are_matched_where_they_overlap(
    real: list[tuple[int, int | None]],
    replayed: list[tuple[int, int | None]],
    said: list[tuple[str, float | None]],
) -> None:
    changes = compare(
        [page(at, until, real=True) for at, until in real],
        [page(at, until, real=False) for at, until in replayed],
    )
    hours = [None if c.delay_seconds is None else c.delay_seconds / 3600 for c in changes]
    assert list(zip([c.kind for c in changes], hours, strict=True)) == said


def test_other_columns_and_segments_are_other_pages() -> None:
    changes = compare(
        [page(1, 2, real=True), page(1, 2, real=True, segment="region=eu")],
        [page(1, 2, real=False, column="y"), page(1, 2, real=False)],
    )
    assert [(c.kind, (c.before or c.after or page(0, 0, real=True)).subject) for c in changes] == [
        ("appears", ("1", "", "y")),
        ("vanishes", ("1", "region=eu", "x")),
    ]


def test_another_severity_at_the_same_time_is_told() -> None:
    (change,) = compare([page(1, 2, real=True)], [page(1, 2, real=False, severity="warning")])
    assert (change.kind, change.delay_seconds) == ("severity", 0.0)
