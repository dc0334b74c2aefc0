"""Taking in groups: bounded in bytes, in order, and nobody alone waits."""

import threading
from dataclasses import dataclass

import pytest

from monitor import gathering
from monitor.gathering import GROUP_BYTES, Gathering


@dataclass(frozen=True, slots=True)
class Item:
    name: int
    held_bytes: int = 1


class Ticking:
    """A clock on which a gathering lasts for ever unless it is ended by something else."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return 0.0


def filled(count: int, clock: Ticking | None = None) -> Gathering[Item]:
    queue: Gathering[Item] = Gathering(clock or Ticking())
    for name in range(count):
        queue.put(Item(name))
    return queue


def test_what_is_there_is_taken_together_and_in_order() -> None:
    assert [item.name for item in filled(5).take()] == [0, 1, 2, 3, 4]


def test_a_group_ends_where_it_would_be_too_large() -> None:
    queue = filled(0)
    for name, size in enumerate((GROUP_BYTES - 1, 1, 1, 3 * GROUP_BYTES, 1)):
        queue.put(Item(name, size))
    assert [[item.name for item in queue.take()] for _ in range(4)] == [[0, 1], [2], [3], [4]]


def test_only_who_had_company_waits_for_it() -> None:
    clock = Ticking()
    queue = filled(1, clock)
    queue.take()
    queue.put(Item(1))
    queue.take()
    assert clock.asked == 0
    queue.put(Item(2))
    queue.put(Item(3))
    queue.take()
    queue.put(Item(4))
    assert [item.name for item in queue.take()] == [4]  # a lull ends it, not the clock
    assert clock.asked > 0


def test_company_that_comes_meanwhile_is_taken_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LULL_SECONDS", 30.0)
    queue = filled(2)
    queue.take()
    queue.put(Item(2))
    taken: list[Item] = []
    taker = threading.Thread(target=lambda: taken.extend(queue.take()))
    taker.start()
    queue.put(Item(3))
    queue.put(Item(4, GROUP_BYTES))  # enough: nobody waits any longer
    taker.join(10)
    assert not taker.is_alive()
    assert [item.name for item in taken] == [2, 3]
    assert [item.name for item in queue.take()] == [4]


def test_what_is_put_back_comes_first_and_holds_the_end() -> None:
    queue = filled(2)
    first = queue.take()
    queue.put(Item(9))
    queue.close()
    ends: list[list[int]] = []

    def drain() -> None:
        while group := queue.take():
            ends.append([item.name for item in group])
            queue.done(len(group))

    taker = threading.Thread(target=drain)
    taker.start()
    queue.put_back(first)
    queue.done(len(first))
    taker.join(10)
    assert not taker.is_alive()
    assert sorted(name for group in ends for name in group) == [0, 1, 9]
    assert queue.take() == []
