"""What a person is told, before any receiver."""

import json
import re
from dataclasses import replace
from datetime import datetime

import pytest

from alerts.errors import AlertError
from alerts.message import Evidence, Link, MessageStatus, as_json, json_bytes, plain_text, trial_message
from alerts.text import clean, cut, number, whole
from alerts.times import span
from tests.alerts.samples import NASTY, NOW, detail, message


def test_one_screen_answers_every_question() -> None:
    text = plain_text(message())
    flowing = " ".join(text.split())
    for said in (
        "[CRITICAL] credit-risk drifted",
        "credit-risk, version 7, segment region=eu",
        "firing since 2026-05-01 09:40 UTC",
        "3 of 21 columns drifted",
        "temp: median 39.9 → 61.2",
        "ks 0.412 over 1h (limit 0.12)",
        "12 034 rows against 50 000,",
        "evidence 3.21 (a page needs 1)",
        "since about 2026-05-01 09:18 UTC",
        "Baseline: train-2026-04.parquet",
        "Changed nearby: version 7 took over from 6",
        "What to do: Compare",
        "Runbook: https://wiki.example/drift",
    ):
        assert said in flowing
    lines = text.split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 110


def test_what_is_over_has_an_end_and_no_evidence_to_judge() -> None:
    text = plain_text(message(MessageStatus.RESOLVED))
    assert "fired 2026-05-01 09:40 UTC, over 2026-05-01 10:00 UTC" in text
    assert "rows against" not in text


def test_alerts_are_ranked_firing_first_then_by_effect() -> None:
    gone = detail("gone", 99.0, MessageStatus.RESOLVED)
    ranked = message(alerts=(gone, detail("small", 1.1), detail("large", 5.0), detail("also", 1.1)))
    assert [d.name for d in ranked.alerts] == ["large", "also", "small", "gone"]
    assert "resolved gone" in plain_text(ranked)


def test_many_columns_are_counted_not_listed() -> None:
    text = plain_text(message(alerts=tuple(detail(f"c{i}", float(i)) for i in range(5000))))
    assert "+4995 more" in text
    assert len(text.split("\n")) <= 30


@pytest.mark.parametrize("name", NASTY)
def test_a_hostile_name_cannot_break_the_screen(name: str) -> None:
    calm = plain_text(message())
    text = plain_text(message(title=f"t {name}", alerts=(detail(name, summary=name),) * 3, model=name))
    assert len(text.split("\n")) <= len(calm.split("\n"))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]", text)
    text.encode()


def test_the_message_is_json_and_nothing_is_lost() -> None:
    value = as_json(message())
    back = json.loads(json_bytes(value))
    assert back == value
    assert back["counts"] == {"affected": 3, "total": 21, "noun": "columns", "verb": "drifted"}
    first = back["alerts"][0]
    assert first["labels"]["column"] == "temp"
    assert first["evidence"]["statistic"] == 0.412
    assert first["evidence"]["since"] == "2026-05-01T09:18:00Z"
    assert (first["starts_at"], first["ends_at"]) == ("2026-05-01T09:40:00Z", None)
    assert len(as_json(message(), 2)["alerts"]) == 2  # type: ignore[arg-type]  # a list


def test_numbers_that_are_none_are_refused_where_they_arise() -> None:
    evidence = detail().evidence
    assert evidence is not None
    with pytest.raises(AlertError, match="statistic"):
        replace(evidence, statistic=float("nan"))
    with pytest.raises(AlertError, match="effect"):
        detail(effect=float("inf"))
    with pytest.raises(ValueError, match="JSON"):
        json_bytes(float("nan"))


def test_naive_times_and_relative_links_are_refused() -> None:
    with pytest.raises(AlertError, match="created_at"):
        message(created_at=datetime(2026, 5, 1))  # noqa: DTZ001
    with pytest.raises(AlertError, match="url"):
        Link(title="Page", url="javascript:alert(1)")


def test_a_trial_says_that_nothing_is_wrong() -> None:
    text = plain_text(trial_message("slack", NOW))
    assert text.startswith("[TEST] Test notification to slack: nothing is wrong")


def test_an_alert_without_evidence_has_a_sentence_less() -> None:
    bare = replace(detail(), evidence=None)
    assert "rows against" not in plain_text(message(alerts=(bare,)))


def test_text_is_cut_by_code_points_and_says_so() -> None:
    assert cut("🙂🙂🙂🙂", 3) == "🙂🙂…"
    assert cut("abc", 3) == "abc"
    assert clean("a\tb\r\nc\x1b\ud800") == "a b  c\ufffd\ufffd"
    assert clean("👩‍🔬 é עברית") == "👩‍🔬 é עברית"


def test_numbers_and_spans_read_well() -> None:
    assert [number(v) for v in (0.4123, 12345.6, -1e20, 0.00001, 7)] == [
        "0.412",
        "12 346",
        "-1e+20",
        "1e-05",
        "7",
    ]
    assert whole(1234567) == "1 234 567"
    assert [span(v) for v in (90, 900, 3600, 86400, 5400)] == ["90s", "15m", "1h", "1d", "90m"]


def test_evidence_of_a_kind_without_bets_reads_well() -> None:
    plain = Evidence(
        detector="missing", window_seconds=900, statistic=0.5, threshold=0.1, rows=10, baseline_rows=20
    )
    assert plain.sentence() == "missing 0.5 over 15m (limit 0.1), 10 rows against 20"
