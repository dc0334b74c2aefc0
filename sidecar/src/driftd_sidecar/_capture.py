"""The hot path: what is added to a call of `InferenceSession.run`.

One copy per tensor, one subtraction, one append. Everything else waits for the background thread. The closures below
repeat themselves, with one body per shape of model, because a loop or one more function call would cost as much as
all the rest: a call of a small model takes five microseconds, and we may add half of one.

Where the caller asks for all outputs by naming none, they are named to onnxruntime: the same request, but it spares
onnxruntime asking the model for its names anew, which costs it as much as most of the capture costs us.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._lane import Lane
from driftd_sidecar._plan import PlanRecipe

Feed = Mapping[str, Any]
Run = Callable[..., list[Any]]
Record = Callable[[Feed, Sequence[Any]], None]

# Not the method of the value: a masked array fills its gaps there, and an object that is no array must not pass.
_tobytes = np.ndarray.tobytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What a monitored run needs beside the real one."""

    buffer: Buffer
    clock: Callable[[], int]
    all_names: list[str]  # every output of the model, in its order
    select: Callable[[Sequence[str]], Record]  # the recorder of other selections of outputs
    wide_row_bytes: int  # tensors with more per row are not for the plan
    fallback: Record  # gets the calls that the plan does not fit, such as a list as input


def monitored_run(real_run: Run, lane: Lane | None, recipe: PlanRecipe | None, capture: Capture) -> Run:
    """`real_run`, followed by the capture of all outputs by `recipe`, or without one by the fallback."""
    if lane is None or recipe is None:
        return _described_run(real_run, capture.fallback, capture)
    if len(recipe.inputs) == 1 and recipe.unit_cost > 0:
        if len(recipe.outputs) == 1:
            return _one_to_one(real_run, lane, recipe.inputs[0].name, capture)
        if len(recipe.outputs) == 2:
            return _one_to_two(real_run, lane, recipe.inputs[0].name, capture)
    return _described_run(real_run, recorder(lane, recipe, capture), capture)


def _one_to_one(real_run: Run, lane: Lane, name: str, capture: Capture) -> Run:
    append, offer, clock = lane.entries.append, capture.buffer.offer, capture.clock
    failed, all_names, select, fallback = _parts(capture)

    def run(output_names: Sequence[str] | None, input_feed: Feed, run_options: Any = None) -> list[Any]:
        try:
            results = real_run(output_names or all_names, input_feed, run_options)
        except Exception:
            failed()
            raise
        if output_names and output_names != all_names:
            select(output_names)(input_feed, results)
            return results
        try:
            first = _tobytes(input_feed[name])
            left = lane.left - len(first)
            if left >= 0 and first:
                lane.left = left
                append((clock(), first, _tobytes(results[0])))
            else:
                offer(lane, (clock(), first, _tobytes(results[0])))
        except Exception:  # the fallback finds out what it was, and books it
            fallback(input_feed, results)
        return results

    return run


def _one_to_two(real_run: Run, lane: Lane, name: str, capture: Capture) -> Run:
    append, offer, clock = lane.entries.append, capture.buffer.offer, capture.clock
    failed, all_names, select, fallback = _parts(capture)

    def run(output_names: Sequence[str] | None, input_feed: Feed, run_options: Any = None) -> list[Any]:
        try:
            results = real_run(output_names or all_names, input_feed, run_options)
        except Exception:
            failed()
            raise
        if output_names and output_names != all_names:
            select(output_names)(input_feed, results)
            return results
        try:
            first = _tobytes(input_feed[name])
            left = lane.left - len(first)
            if left >= 0 and first:
                lane.left = left
                append((clock(), first, _tobytes(results[0]), _tobytes(results[1])))
            else:
                offer(lane, (clock(), first, _tobytes(results[0]), _tobytes(results[1])))
        except Exception:  # the fallback finds out what it was, and books it
            fallback(input_feed, results)
        return results

    return run


def _described_run(real_run: Run, record: Record, capture: Capture) -> Run:
    failed, all_names, select, _ = _parts(capture)

    def run(output_names: Sequence[str] | None, input_feed: Feed, run_options: Any = None) -> list[Any]:
        try:
            results = real_run(output_names, input_feed, run_options)
        except Exception:
            failed()
            raise
        if output_names and output_names != all_names:
            select(output_names)(input_feed, results)
        else:
            record(input_feed, results)
        return results

    return run


def _parts(
    capture: Capture,
) -> tuple[Callable[[], None], list[str], Callable[[Sequence[str]], Record], Record]:
    return capture.buffer.count_failed_inference, capture.all_names, capture.select, capture.fallback


def recorder(lane: Lane, recipe: PlanRecipe, capture: Capture) -> Record:
    """The function that keeps one call of any plan."""
    append, offer, clock = lane.entries.append, capture.buffer.offer, capture.clock
    fallback = capture.fallback
    names = tuple(field.name for field in recipe.inputs)
    takers = tuple(_copy_maps if field.is_map else _tobytes for field in recipe.outputs)

    def record(feed: Feed, results: Sequence[Any]) -> None:
        try:
            inputs = [_tobytes(feed[name]) for name in names]
            outputs = [take(value) for take, value in zip(takers, results, strict=True)]
            entry = (clock(), *inputs, *outputs)
            if not recipe.unit_cost and recipe.is_wide(entry, capture.wide_row_bytes):
                fallback(feed, results)
                return
            units = len(inputs[0])
            left = lane.left - units
            if left >= 0 and units:
                lane.left = left
                append(entry)
            else:
                offer(lane, entry)
        except Exception:  # the fallback finds out what it was, and books it
            fallback(feed, results)

    return record


def _copy_maps(rows: Any) -> list[dict[Any, Any]]:
    """A ZipMap output: onnxruntime hands out fresh dicts, but the caller may change them."""
    return list(map(dict.copy, rows))
