"""The buffer: bounded in bytes, thinned without looking, and books that add up whatever happens."""

import random
import threading

import numpy as np
import pytest

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._lane import Lane
from driftd_sidecar._notices import Notices
from driftd_sidecar._plan import PlanRecipe, array_field

LIMIT = 1 << 20


class Probe:
    """What the buffer called."""

    def __init__(self) -> None:
        self.starts = 0
        self.wakes = 0

    def start(self) -> None:
        self.starts += 1

    def wake(self) -> None:
        self.wakes += 1


def make(limit: int = LIMIT) -> tuple[Buffer, Probe]:
    probe = Probe()
    return Buffer(limit, rng=random.Random(7), start=probe.start, wake=probe.wake), probe


def described(buffer: Buffer) -> Lane:
    return buffer.lane(CallRecipe(notices=Notices(), tags={}))


def offer(buffer: Buffer, lane: Lane, rows: int = 1, width: int = 30) -> None:
    buffer.offer(lane, tuple(capture({"x": np.zeros((rows, width), np.float32)}, {}, time_ns=1)))


def planned(buffer: Buffer) -> Lane:
    field = array_field("x", "tensor(float)", ["N", 30])
    assert field is not None
    return buffer.lane(PlanRecipe(inputs=[field], outputs=[field], notices=Notices(), tags={}))


def check_books(buffer: Buffer) -> None:
    stats = buffer.stats()
    assert stats.seen == stats.kept + stats.dropped
    assert stats.kept == stats.sent + stats.pending
    assert stats.dropped == stats.sampled_out + stats.overflowed + stats.gave_up + stats.errors
    assert min(stats.kept, stats.dropped, stats.sent, stats.pending) >= 0


def test_nothing_is_started_before_the_first_row() -> None:
    buffer, probe = make()
    lane = described(buffer)
    offer(buffer, lane, rows=0)
    assert (probe.starts, buffer.stats().seen) == (0, 0)
    offer(buffer, lane)
    offer(buffer, lane)
    assert (probe.starts, buffer.stats().seen) == (1, 2)


def test_a_full_buffer_thins_first_and_drops_last_and_counts_every_row() -> None:
    buffer, probe = make()
    lane = described(buffer)
    for _ in range(20_000):
        offer(buffer, lane, rows=2)
    stats = buffer.stats()
    assert stats.seen == 40_000
    assert stats.sampled_out > 0
    assert stats.overflowed > 0
    assert stats.pending_bytes <= LIMIT
    assert stats.pending_bytes > 0.9 * LIMIT
    assert probe.wakes > 0
    check_books(buffer)


def test_the_sample_rate_halves_each_time_the_free_space_halves() -> None:
    buffer, _ = make()
    lane = described(buffer)
    for _ in range(20_000):
        offer(buffer, lane)
    pieces = buffer.cut(0, since=0, max_rows=1, max_bytes=LIMIT, max_age=0, everything=True)
    rows = {cut.rate: piece.rows for cut, piece in pieces}
    assert list(rows) == [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625]
    kept = list(rows.values())
    # Half of the space at rate 1, a quarter at 1/2 and so on; the last rate has the rest.
    assert kept[0] == pytest.approx(2 * kept[1], rel=0.05)
    assert kept[1] == pytest.approx(2 * kept[2], rel=0.05)


def test_thinning_is_uniform() -> None:
    buffer, _ = make()
    lane = described(buffer)
    buffer.recharge(int(LIMIT * 0.6))  # free space 0.4 of the limit: rate 1/2
    for value in range(2000):
        buffer.offer(lane, tuple(capture({"x": np.array([value])}, {}, time_ns=1)))
        if value % 100 == 99:
            stats = buffer.stats()
            buffer.recharge(int(LIMIT * 0.6) - stats.pending_bytes)
    stats = buffer.stats()
    # Binomial(2000, 1/2): four standard deviations are 90.
    assert abs(stats.kept - 1000) < 90
    check_books(buffer)


def test_a_call_larger_than_the_buffer_is_dropped() -> None:
    buffer, _ = make()
    lane = described(buffer)
    offer(buffer, lane, rows=20_000)
    assert buffer.stats().overflowed == 20_000
    check_books(buffer)


def test_leased_room_never_lets_the_hot_path_past_half_of_the_buffer() -> None:
    buffer, _ = make()
    lane = planned(buffer)
    entry = (1, bytes(120), bytes(120))
    hot = 0
    for _ in range(20_000):  # what the closure of the hot path does
        left = lane.left - 120
        if left >= 0:
            lane.left = left
            lane.entries.append(entry)
            hot += 1
        else:
            buffer.offer(lane, entry)
    stats = buffer.stats()
    assert hot > 500
    assert stats.seen == 20_000
    assert stats.pending_bytes <= LIMIT
    real = sum(
        piece.cost for _, piece in buffer.cut(0, since=0, max_rows=1, max_bytes=1, max_age=0, everything=True)
    )
    assert real <= LIMIT
    check_books(buffer)


def test_unused_leases_are_taken_back_when_room_is_short() -> None:
    buffer, _ = make()
    lanes = [planned(buffer) for _ in range(20)]
    for lane in lanes:
        buffer.offer(lane, (1, bytes(120), bytes(120)))
    assert sum(lane.left > 0 for lane in lanes) < 20
    for _ in range(500):
        offer(buffer, described(buffer))
    assert buffer.stats().dropped == 0


def test_nothing_is_lost_between_threads_that_append_and_one_that_drains() -> None:
    buffer, _ = make(1 << 24)
    lane = planned(buffer)
    stop = threading.Event()

    def append() -> None:
        for _ in range(5000):
            left = lane.left - 120
            if left >= 0:
                lane.left = left
                lane.entries.append((1, bytes(120), bytes(120)))
            else:
                buffer.offer(lane, (1, bytes(120), bytes(120)))

    taken = 0
    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for _, piece in buffer.cut(0, since=0, max_rows=1, max_bytes=LIMIT, max_age=0, everything=True):
            taken += piece.rows
            buffer.recharge(-piece.cost)
    stop.set()
    for _, piece in buffer.cut(0, since=0, max_rows=1, max_bytes=LIMIT, max_age=0, everything=True):
        taken += piece.rows
    stats = buffer.stats()
    assert stats.seen == 20_000
    assert taken == stats.kept
    check_books(buffer)


def test_rows_wait_until_there_are_enough_or_they_are_old() -> None:
    buffer, _ = make()
    lane = described(buffer)
    offer(buffer, lane, rows=9)

    def cut(now: float) -> int:
        return sum(
            piece.rows
            for _, piece in buffer.cut(
                now, since=10.0, max_rows=10, max_bytes=LIMIT, max_age=1.0, everything=False
            )
        )

    assert cut(10.5) == 0
    assert buffer.waiting
    assert cut(11.0) == 9
    assert not buffer.waiting
    offer(buffer, lane, rows=9)
    assert cut(11.1) == 9  # since says that they may be as old as 10.0
    offer(buffer, lane, rows=10)
    assert cut(10.1) == 10


def test_batches_are_cut_at_their_byte_limit() -> None:
    buffer, _ = make()
    lane = planned(buffer)
    for _ in range(100):
        buffer.offer(lane, (1, bytes(120), bytes(120)))
    _, cost = lane.recipe.measure_one((1, bytes(120), bytes(120)))
    pieces = buffer.cut(0, since=0, max_rows=1, max_bytes=30 * cost, max_age=9, everything=False)
    assert [piece.rows for _, piece in pieces] == [30, 30, 30, 10]


def test_a_closed_buffer_counts_what_it_refuses() -> None:
    buffer, _ = make()
    lane = described(buffer)
    offer(buffer, lane)
    buffer.close()
    offer(buffer, lane, rows=4)
    stats = buffer.stats()
    assert (stats.seen, stats.kept, stats.overflowed) == (5, 1, 4)


def test_a_thread_that_cannot_start_costs_rows_not_the_caller() -> None:
    def fail() -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    buffer = Buffer(LIMIT, rng=random.Random(1), start=fail, wake=lambda: None)
    offer(buffer, described(buffer), rows=3)
    assert buffer.stats().errors == 3


def test_a_forked_child_starts_with_nothing() -> None:
    buffer, probe = make()
    lane = described(buffer)
    entries = lane.entries
    offer(buffer, lane, rows=5)
    buffer.reset_after_fork()
    assert lane.entries is entries
    assert buffer.stats() == make()[0].stats()
    offer(buffer, lane)
    assert probe.starts == 2
