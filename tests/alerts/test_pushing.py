"""When an Alertmanager is told again."""

from datetime import datetime, timedelta

import pytest

from alerts.pushing import Newest, Stage, Standing, Step, step, told_of
from tests.alerts.samples import NOW

MINUTE = timedelta(minutes=1)


def alert(
    number: int,
    *,
    firing: bool = True,
    since: timedelta = timedelta(hours=1),
    muted: bool = False,
    key: str = "",
) -> Standing:
    return Standing(id=number, key=key or f"k{number}", firing=firing, changed_at=NOW - since, muted=muted)


def newest(*ids: int, ago: timedelta = timedelta(seconds=30), stage: Stage = Stage.SETTLED) -> Newest:
    return Newest(alert_ids=frozenset(ids), written_at=NOW - ago, stage=stage)


def told(*alerts: Standing, known: tuple[int, ...] = (), unsettled: tuple[int, ...] = ()) -> list[int]:
    return [a.id for a in told_of(alerts, known=known, unsettled=unsettled, now=NOW)]


def test_what_fires_is_told_and_what_ended_for_a_quarter_of_an_hour() -> None:
    ended = [alert(2, firing=False, since=15 * MINUTE), alert(3, firing=False, since=16 * MINUTE)]
    assert told(alert(1), *ended, known=(1, 2, 3)) == [1, 2]


def test_an_end_that_was_not_delivered_is_told_however_old_it_is() -> None:
    ended = alert(1, firing=False, since=timedelta(hours=9))
    assert told(ended, known=(1,), unsettled=(1,)) == [1]


def test_what_was_over_before_it_was_told_is_not_told() -> None:
    assert told(alert(1, firing=False, since=MINUTE), unsettled=(1,)) == []


def test_a_silence_keeps_back_news_but_ends_nothing() -> None:
    assert told(alert(1, muted=True), alert(2, muted=True), known=(2,)) == [2]


def test_an_alert_that_fires_again_is_not_told_as_over() -> None:
    ended = alert(1, firing=False, since=MINUTE, key="same")
    assert told(ended, alert(2, key="same"), known=(1,)) == [2]
    later = alert(3, firing=False, since=MINUTE, key="same")
    assert told(later, ended, known=(1, 3)) == [3]


def test_ends_can_be_unwanted() -> None:
    ended = alert(1, firing=False, since=MINUTE)
    assert told_of([ended], known={1}, unsettled=(), now=NOW, send_resolved=False) == ()


@pytest.mark.parametrize(
    ("wanted", "before", "expected"),
    [
        ([], None, Step.NOTHING),
        ([], newest(1), Step.NOTHING),
        ([], newest(1, stage=Stage.WAITING), Step.DROP),
        ([alert(1)], None, Step.INSERT),
        # The same again: once a minute, in place, unless it is under way.
        ([alert(1)], newest(1), Step.NOTHING),
        ([alert(1)], newest(1, ago=MINUTE), Step.RENEW),
        ([alert(1)], newest(1, ago=MINUTE, stage=Stage.WAITING), Step.RENEW),
        ([alert(1)], newest(1, ago=9 * MINUTE, stage=Stage.IN_FLIGHT), Step.NOTHING),
        # A change: at once, and as a row of its own, unless one waits that can say it.
        ([alert(1), alert(2)], newest(1), Step.INSERT),
        ([alert(1), alert(2)], newest(1, stage=Stage.IN_FLIGHT), Step.INSERT),
        ([alert(1), alert(2)], newest(1, stage=Stage.WAITING), Step.RENEW),
        ([alert(1, firing=False, since=timedelta(seconds=9))], newest(1), Step.INSERT),
        ([alert(1, firing=False, since=MINUTE)], newest(1), Step.NOTHING),
        # Two changes in one instant: the second is added to what waits, and what was sent is not sent twice.
        ([alert(1, since=timedelta(0))], newest(1, ago=timedelta(0), stage=Stage.WAITING), Step.RENEW),
        ([alert(1, since=timedelta(0))], newest(1, ago=timedelta(0)), Step.NOTHING),
        # The clock was set back: neither silence until it has caught up, nor news at every look.
        ([alert(1)], newest(1, ago=-timedelta(hours=1)), Step.RENEW),
        ([alert(1, since=-timedelta(hours=1))], newest(1), Step.NOTHING),
    ],
)
def test_what_becomes_of_the_outbox(wanted: list[Standing], before: Newest | None, expected: Step) -> None:
    assert step(wanted, before, NOW) is expected


def test_a_body_is_at_most_a_minute_old_while_its_instance_is_down() -> None:
    at: datetime = NOW
    waiting, renewed = newest(1, ago=timedelta(0), stage=Stage.WAITING), 0
    for _ in range(12 * 60):  # an hour of looks, one each five seconds
        at += timedelta(seconds=5)
        if step([alert(1)], waiting, at) is Step.RENEW:
            waiting = Newest(alert_ids=waiting.alert_ids, written_at=at, stage=Stage.WAITING)
            renewed += 1
    assert renewed == 60
