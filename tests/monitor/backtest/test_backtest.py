"""A backtest says what another configuration would have paged, and nothing where it is the same."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.identity import AlertKind, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from monitor.backtest import ModelReport, backtest
from monitor.backtest.reporting import UnknownModel
from monitor.config import parse
from monitor.episodes import AlertBook
from storage.engine import Connection, Database
from storage.tables import evaluations, panes
from tests.monitor import frames
from tests.monitor.world import CONFIG, MODEL, START, World

BASELINE = frames.baseline()
MINUTE = timedelta(minutes=1)


def story(world: World) -> None:
    """Two drifts with quiet before, between and after; a restart, late rows, a hole without traffic, and a new version."""
    world.register(BASELINE)
    for minute in range(300):
        shifted = 20 <= minute < 60 or 160 <= minute < 200
        if minute == 150:
            world.register(BASELINE, version="2")
        world.minute(1000 + minute, shift=12.0 if shifted else 0.0, version="2" if minute >= 150 else "1")
        if minute in (30, 170):
            world.restart()
        if minute == 35:
            world.send(START + 20 * MINUTE, frames.rows(77, 40, shift=12.0))
        if minute == 40:
            world.clock.advance(timedelta(minutes=4))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("left") / "state"
    world = World(directory)
    story(world)
    columns = [(a.version, a.column, a.state) for a in world.alerts() if a.column]
    assert columns == [("1", "temp", "resolved"), ("2", "temp", "resolved")]
    world.close()
    return directory


@pytest.fixture
def state(left: Path, tmp_path: Path) -> Path:
    shutil.copytree(left, tmp_path / "state")
    return tmp_path / "state"


def replayed(state: Path, config: str, *, last: timedelta = timedelta(days=30)) -> ModelReport:
    with Database.open_readonly(state) as reader:
        (report,) = backtest(reader, parse(config), last=last)
    return report


def changed(report: ModelReport) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for change in report.changes:
        page = change.before or change.after
        assert page is not None
        found.append((change.kind, page.version, page.column))
    return found


def test_the_same_configuration_makes_no_difference(state: Path) -> None:
    report = replayed(state, CONFIG)
    assert report.changes == ()
    assert (report.paged, report.would_page) == (2, 2)
    assert report.boundaries > 300
    assert report.model == MODEL


@pytest.mark.parametrize("minutes", [290, 275, 200, 140, 90, 30])
def test_it_makes_none_wherever_the_span_begins(state: Path, minutes: int) -> None:
    """In quiet, while an alert fires, while it subsides: evidence and open alerts are as they were then."""
    report = replayed(state, CONFIG, last=minutes * MINUTE)
    assert report.changes == ()
    assert report.paged == report.would_page


def test_what_labels_told_is_no_page_that_it_decides(state: Path) -> None:
    world = World(state)
    book, at = AlertBook({}), START + 110 * MINUTE
    labels = alert_labels(AlertKind.PERFORMANCE, MODEL, "1", "", "carrier")
    book.observe(labels, Condition.TRUE, LifecycleRule(), at, {"summary": "accuracy 0.8"})
    world.service.database.write(lambda conn: book.write(conn, at)).result()
    world.close()
    report = replayed(state, CONFIG)
    assert (report.changes, report.paged) == ((), 2)


def test_a_larger_budget_pages_earlier_and_a_smaller_one_later(state: Path) -> None:
    report = replayed(state, CONFIG.replace("false_pages_per_year = 1.0", "false_pages_per_year = 500.0"))
    earlier = [change for change in report.changes if change.kind == "earlier"]
    assert [change.before.column for change in earlier if change.before] == ["temp", "temp"]
    assert all((change.delay_seconds or 0) < 0 for change in earlier)
    report = replayed(state, CONFIG.replace("false_pages_per_year = 1.0", "false_pages_per_year = 0.001"))
    assert changed(report)[0] == ("later", "1", "temp")


def test_an_ignored_column_no_longer_pages(state: Path) -> None:
    report = replayed(state, CONFIG.replace("lateness", 'ignore = ["temp"]\nlateness'))
    assert changed(report) == [("vanishes", "1", "temp"), ("vanishes", "2", "temp")]
    first = report.changes[0].before
    assert first is not None
    assert (first.alert, first.detector, first.severity) == (1, "psi", "critical")
    assert report.would_page == 0


def test_a_higher_threshold_makes_pages_vanish(state: Path) -> None:
    report = replayed(
        state, CONFIG.replace("lateness", "effect = { temp = { ks = 0.9, psi = 50.0 } }\nlateness")
    )
    assert changed(report) == [("vanishes", "1", "temp"), ("vanishes", "2", "temp")]


def test_a_lower_threshold_makes_pages_earlier_where_evidence_does_not_hold_them_up(state: Path) -> None:
    generous = CONFIG.replace("false_pages_per_year = 1.0", "false_pages_per_year = 1000.0")
    sensitive = generous.replace("lateness", "effect = { temp = { ks = 0.1 } }\nlateness")
    before, after = (replayed(state, config) for config in (generous, sensitive))
    fires = [[c.after.at for c in report.changes if c.after] for report in (before, after)]
    assert [len(at) for at in fires] == [2, 2]
    assert all(late > early for late, early in zip(*fires, strict=True))


def test_weights_move_the_budget(state: Path) -> None:
    report = replayed(state, CONFIG.replace("lateness", "weights = { temp = 0.0 }\nlateness"))
    assert changed(report) == [("vanishes", "1", "temp"), ("vanishes", "2", "temp")]


def test_keep_firing_joins_nothing_here_but_for_delays(state: Path) -> None:
    report = replayed(state, CONFIG.replace("lateness", 'for = "5m"\nlateness'))
    assert [(change.kind, change.delay_seconds) for change in report.changes] == [("later", 300.0)] * 2


def test_other_windows_are_summed_from_panes_as_far_as_they_reach(state: Path) -> None:
    config = CONFIG.replace('["15m", "1h"]', '["15m", "30m"]')
    whole = replayed(state, config)
    assert any(
        "windows of 15m, 30m were not all evaluated and need panes of 1m" in note for note in whole.notes
    )
    assert (whole.paged, whole.would_page) == (2, 2)
    with Database.open(state) as database:

        def drop(conn: Connection) -> None:
            conn.execute(panes.delete().where(panes.c.start < int((START + 100 * MINUTE).timestamp())))

        database.write(drop).result()
    part = replayed(state, config)
    assert (part.paged, part.would_page) == (1, 1)
    assert "need panes of 1m, which cover from 2026-03-02 02:10 UTC on" in " ".join(part.notes)


def test_panes_tell_the_same_as_evaluations(state: Path) -> None:
    """Float64 from counts here, float32 as stored there; the few late rows move nothing."""
    with Database.open(state) as database:
        database.write(lambda conn: conn.execute(evaluations.delete()).rowcount).result()
    report = replayed(state, CONFIG)
    assert report.changes == ()
    assert (report.paged, report.would_page) == (2, 2)
    assert any("which cover all of it" in note for note in report.notes)


def test_an_alert_that_was_accepted_ends_in_the_replay_too(tmp_path: Path) -> None:
    from monitor.operations import accept

    world = World(tmp_path / "state")
    world.register(BASELINE)
    for minute in range(60):
        world.minute(1000 + minute, shift=12.0 if minute >= 20 else 0.0)
    (alert,) = [a for a in world.alerts() if a.column]
    accept(world.service, alert.id, actor="ann")
    for minute in range(60, 120):
        world.minute(1000 + minute, shift=12.0)
    for minute in range(120, 160):
        world.minute(1000 + minute)
    assert len([a for a in world.alerts() if a.column == "temp"]) == 2
    world.close()
    report = replayed(tmp_path / "state", CONFIG)
    assert report.changes == ()
    assert report.paged >= 2


def test_a_version_that_falls_silent_starts_again_from_nothing_as_it_did(tmp_path: Path) -> None:
    """A hole longer than every window retires the alert; the drift that comes back has to earn its page anew."""
    world = World(tmp_path / "state")
    world.register(BASELINE)
    for minute in range(110):
        if minute == 55:
            world.clock.advance(timedelta(minutes=80))
        world.minute(1000 + minute, shift=12.0 if minute >= 15 else 0.0)
    found = [(a.column, a.resolution) for a in world.alerts() if a.column]
    assert found == [("temp", "retired"), ("temp", None)]
    world.close()
    report = replayed(tmp_path / "state", CONFIG)
    assert report.changes == ()
    assert (report.paged, report.would_page) == (2, 2)


def test_nothing_is_written_and_a_running_daemon_is_not_disturbed(state: Path) -> None:
    world = World(state, start=START + timedelta(minutes=304))
    assert replayed(state, CONFIG).changes == ()
    at = world.clock.now()
    world.clock.advance(MINUTE)
    world.send(at, frames.rows(5000, 60), version="2", spread=timedelta(seconds=59), batch_id="beside")
    assert world.look() == 1
    assert replayed(state, CONFIG).changes == ()
    world.close()


def test_an_unknown_model_is_named(state: Path) -> None:
    with Database.open_readonly(state) as reader, pytest.raises(UnknownModel, match=f"there are: {MODEL}"):
        backtest(reader, parse(CONFIG), last=timedelta(days=1), model="credti")


def test_learning_is_replayed_where_it_was_off(state: Path) -> None:
    """While LEARNING large shifts page, and these are."""
    report = replayed(state, CONFIG.replace("learning = false", "learning = true"))
    assert (report.paged, report.would_page) == (2, 2)
