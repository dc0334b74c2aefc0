"""Which recorder keeps which calls of a session: a plan where the model fixes its shapes, else a description."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driftd_sidecar._capture import Capture, Feed, Record, Run, monitored_run, recorder
from driftd_sidecar._lane import Lane
from driftd_sidecar._logger import PredictionLogger
from driftd_sidecar._plan import ELEMENTS, PlanRecipe, array_field, output_field

_MOST_SELECTIONS = 64  # selections of outputs with a plan of their own


class Recorders:
    """One recorder per selection of outputs, made on first use."""

    def __init__(self, session: Any, logger: PredictionLogger) -> None:
        self._logger = logger
        self._session = session
        self._inputs = list(session.get_inputs())
        self._outputs = {output.name: output for output in session.get_outputs()}
        self._dtypes = {
            each.name: np.dtype(ELEMENTS[each.type][2]) for each in self._inputs if each.type in ELEMENTS
        }
        self._known: dict[tuple[str, ...], Record] = {}
        self._everything = tuple(self._outputs)

    def run(self) -> Run:
        """The session's `run`, monitored."""
        lane, recipe = self._plan(self._everything)
        return monitored_run(self._session.run, lane, recipe, self._capture(self._everything))

    def of(self, output_names: Sequence[str] | None) -> Record:
        """The recorder of a selection; None or empty means all outputs, as in onnxruntime. Never raises."""
        names = tuple(output_names) if output_names else self._everything
        known = self._known.get(names)
        if known is None:
            known = self._make(names)
            if len(self._known) < _MOST_SELECTIONS:
                self._known[names] = known
        return known

    def _make(self, names: tuple[str, ...]) -> Record:
        capture = self._capture(names)
        if len(self._known) >= _MOST_SELECTIONS:
            return capture.fallback
        try:
            lane, recipe = self._plan(names)
        except Exception:
            return capture.fallback
        return capture.fallback if lane is None or recipe is None else recorder(lane, recipe, capture)

    def _capture(self, names: tuple[str, ...]) -> Capture:
        logger, dtypes = self._logger, self._dtypes

        def describe(feed: Feed, results: Sequence[Any]) -> None:
            logger.record(feed, dict(zip(names, results, strict=False)), dtypes=dtypes)

        return Capture(
            buffer=logger.buffer,
            clock=logger.clock,
            all_names=list(self._everything),
            wide_row_bytes=logger.wide_row_bytes,
            select=self.of,
            fallback=describe,
        )

    def _plan(self, names: tuple[str, ...]) -> tuple[Lane | None, PlanRecipe | None]:
        """Nones when the model leaves shapes or types open, or when nobody checks what goes in."""
        if sys.byteorder != "little" or not _checks_its_inputs(self._session):
            return None, None
        inputs = [array_field(each.name, each.type, each.shape) for each in self._inputs]
        outputs = [
            output_field(name, self._outputs[name].type, self._outputs[name].shape)
            if name in self._outputs
            else None
            for name in names
        ]
        widest = self._logger.wide_row_bytes
        if (
            not inputs
            or inputs[0] is None
            or inputs[0].row_bytes is None
            or None in inputs
            or None in outputs
            or any(field is not None and (field.row_bytes or 0) > widest for field in (*inputs, *outputs))
        ):
            return None, None
        recipe = PlanRecipe(
            inputs=[field for field in inputs if field is not None],
            outputs=[field for field in outputs if field is not None],
            notices=self._logger.notices,
            tags=self._logger.tags,
        )
        return self._logger.buffer.lane(recipe), recipe

    def keep(
        self, output_names: Sequence[str] | None, feed: Feed, results: Sequence[Any], **texts: Any
    ) -> None:
        """Captures a call that brings an id and tags of its own."""
        names = tuple(output_names) if output_names else self._everything
        self._logger.record(feed, dict(zip(names, results, strict=False)), dtypes=self._dtypes, **texts)

    def keep_ort_values(
        self, output_names: Sequence[str] | None, inputs: Mapping[str, Any], results: Sequence[Any]
    ) -> None:
        try:
            values = [*inputs.values(), *results]
            if all(value.device_name() == "cpu" and value.is_tensor() for value in values):
                names = tuple(output_names) if output_names else self._everything
                self._logger.record(inputs, dict(zip(names, results, strict=False)))
                return
        except Exception as error:  # nothing of ours may reach the caller
            self._logger.count_lost(inputs, error)
            return
        self.unseen("run_with_ort_values with device memory")

    def unseen(self, route: str) -> None:
        self._logger.buffer.count_unseen_call()
        self._logger.notices.once(
            f"unseen {route}", "%s: its data is not seen by driftd; pass it to log() if it should be", route
        )


def _checks_its_inputs(session: Any) -> bool:
    """Whether this is onnxruntime's own `run`, which refuses a wrong dtype, rank or dimension, and takes names for None."""
    module = sys.modules.get("onnxruntime")
    if module is None:
        return False
    return getattr(type(session), "run", None) is module.InferenceSession.run and "run" not in vars(session)
