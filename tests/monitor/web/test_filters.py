"""Addresses that survive a browser, times that say how long ago, names that stay text."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from jinja2 import Environment

from monitor.web.filters import FILTERS, column_of, model_of, name
from tests.monitor.web.gallery import NASTY_COLUMNS

NOW = datetime(2026, 3, 2, 3, 4, 5, tzinfo=UTC)


def shown(source: str, **values: object) -> str:
    environment = Environment(autoescape=True)
    environment.filters.update(FILTERS)
    return environment.from_string(source).render(now=NOW, **values)


@pytest.mark.parametrize("column", [*NASTY_COLUMNS, ".", "", "columns", "a b", "%2F"])
def test_the_address_of_a_column_names_it_and_nothing_else(column: str) -> None:
    parts = urlsplit(column_of(column, "m/1", "v 1", 60))
    query = parse_qs(parts.query, keep_blank_values=True)
    segments = parts.path.split("/")
    assert [unquote(s) for s in segments[:4]] == ["", "models", "m/1", "columns"]
    assert len(segments) == 5
    assert unquote(segments[4]) == column or query["column"] == [column]
    assert segments[4] not in (".", "..")
    assert (query["version"], query["window"], parts.fragment) == (["v 1"], ["60"], "")


@pytest.mark.parametrize("value", ["eu", "a&b=c#d?e", "..", "x/y", "%2F", '<i>"'])
def test_the_address_of_a_segment_names_it_and_nothing_else(value: str) -> None:
    for address in (
        model_of("m/1", "v 1", f"region={value}"),
        column_of("x", "m/1", "v 1", None, f"region={value}"),
    ):
        parts = urlsplit(address)
        assert parse_qs(parts.query) == {"version": ["v 1"], "segment": [f"region={value}"]}
        assert (unquote(parts.path.split("/")[2]), parts.fragment) == ("m/1", "")
    assert model_of("m/1") == "/models/m%2F1"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "1 min"),
        (5399, "89 min"),
        (5400, "1 h"),
        (172799, "47 h"),
        (172800, "2 d"),
    ],
)
def test_times_say_how_long_ago(seconds: int, said: str) -> None:
    at = NOW - timedelta(seconds=seconds)
    stamp = at.strftime("%Y-%m-%d %H:%M")
    assert shown("{{ at|when }}", at=at).endswith(f"{stamp}</time> ({said} ago)")
    assert shown("{{ at|ago }}", at=at).startswith(f"{said} ago · <time")
    assert shown("{{ at|ago('retired') }}", at=at).startswith(f"retired {said} ago · ")


def test_what_is_still_to_come_is_not_ago() -> None:
    later = NOW + timedelta(hours=1)
    assert "ago" not in shown("{{ at|when }}{{ at|ago }}", at=later)
    assert (
        shown("{{ at|minute }}", at=later) == '<time datetime="2026-03-02T04:04:05Z">2026-03-02 04:04</time>'
    )


def test_a_name_breaks_at_its_joints_and_stays_text() -> None:
    assert name("wind_dir") == "<bdi>wind_<wbr>dir</bdi>"
    assert name("<a_b>&'") == "<bdi>&lt;a_<wbr>b&gt;&amp;&#39;</bdi>"
