"""A model's ONNX file: its signature, and its predictions and confidences over the training rows."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.profile import ConfidenceRule, TensorMap
from monitor.ingest.frame import derive_confidence
from monitor.training.options import PREDICTION, TrainingError

AnyArray = npt.NDArray[Any]

COLUMNS_KEY = "driftd.columns."
"""Custom metadata `driftd.columns.<tensor>`: a JSON list with the column of each position of an (N, F) input."""
VERSION_KEY = "version"
_UNSET_VERSION = 2**63 - 1
"""What onnxruntime says of a model without a version."""

_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
    "tensor(bool)": "bool", "tensor(string)": "string",
}  # fmt: skip
_DATATYPES = {
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL", "string": "BYTES",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip


def oip_datatype(dtype: str) -> str:
    """The Open Inference Protocol's name of a numpy dtype; text is BYTES."""
    return _DATATYPES[dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTensor:
    """An input: its dtype ("string" for text), and its columns in order; `flat` inputs have shape (N,)."""

    name: str
    dtype: str
    columns: tuple[str, ...]
    flat: bool


class Artefact:
    """An ONNX model that can be asked for its signature and run.

    `inputs` name the columns; `columns` maps each to its dtype. `label` is the output that becomes the
    prediction, `probabilities` the one that becomes the confidence; either may be None.
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[str, ...]]) -> None:
        self.path = path
        self.sha256 = _digest(path)
        self._session = _session(path)
        meta = self._session.get_modelmeta()
        self.metadata: dict[str, str] = dict(meta.custom_metadata_map)
        self.version = self._version(int(meta.version))
        declared = self._session.get_inputs()
        unknown = sorted(set(tensors) - {tensor.name for tensor in declared})
        if unknown:
            names = ", ".join(tensor.name for tensor in declared)
            raise TrainingError(f"{path}: the model has no input {unknown[0]!r}; it has {names}")
        self.inputs = tuple(self._input(tensor, tensors.get(tensor.name)) for tensor in declared)
        named = [column for tensor in self.inputs for column in tensor.columns if column]
        twice = sorted({column for column in named if named.count(column) > 1})
        if twice:
            raise TrainingError(
                f"{path}: the column {twice[0]!r} feeds two places of the model's inputs; name it once"
            )
        self.columns = {column: tensor.dtype for tensor in self.inputs for column in tensor.columns if column}
        self.label, self.probabilities = self._outputs()
        self.rule: ConfidenceRule | None = None

    def tensor_maps(self) -> tuple[TensorMap, ...]:
        """Which column stands where in the model's tensors."""
        maps = [
            TensorMap(
                name=tensor.name, datatype=oip_datatype(tensor.dtype), kind="input", columns=tensor.columns
            )
            for tensor in self.inputs
        ]
        if self.label is not None:
            datatype = oip_datatype(_DTYPES[self.label.type])
            maps.append(
                TensorMap(name=self.label.name, datatype=datatype, kind="output", columns=(PREDICTION,))
            )
        return tuple(maps)

    def run(self, columns: Mapping[str, AnyArray], at: str) -> tuple[AnyArray | None, AnyArray | None]:
        """Predictions [n] and confidences [n] of rows, None for an output the model lacks.

        `columns` are as a spool reads them: float64 with NaN, or text with None (sent as ""). `at` names the
        rows in errors.
        """
        feed = {tensor.name: self._fed(tensor, columns, at) for tensor in self.inputs}
        wanted = [output for output in (self.label, self.probabilities) if output is not None]
        try:
            results = dict(
                zip([o.name for o in wanted], self._session.run([o.name for o in wanted], feed), strict=True)
            )
        except Exception as error:  # onnxruntime's errors share no public base
            raise TrainingError(
                f"{at}: the model fails on these rows: {' '.join(str(error).split())}"
            ) from None
        prediction = None if self.label is None else np.asarray(results[self.label.name]).reshape(-1)
        if self.probabilities is None:
            return prediction, None
        return prediction, self._confidence(results[self.probabilities.name])

    def _input(self, tensor: Any, given: tuple[str, ...] | None) -> InputTensor:
        dtype = _DTYPES.get(tensor.type)
        shape = tuple(tensor.shape)
        if dtype is None or len(shape) > 2:
            raise TrainingError(
                f"{self.path}: input {tensor.name!r} is a {tensor.type} of shape {list(shape)}; rows of a table are "
                "needed: shape (N,) or (N, F)"
            )
        width = shape[1] if len(shape) == 2 else 1
        columns = given or self._named(tensor.name)
        if columns is None:
            if width != 1:
                raise TrainingError(
                    f"{self.path}: the columns of input {tensor.name!r}, {list(shape)}, are not named; say them in order "
                    f"with --tensor {tensor.name}=COLUMN,COLUMN,…"
                )
            columns = (tensor.name,)
        if isinstance(width, int) and len(columns) != width:
            raise TrainingError(
                f"{self.path}: input {tensor.name!r} has {width} columns, but {len(columns)} are named: {', '.join(columns)}"
            )
        return InputTensor(name=tensor.name, dtype=dtype, columns=columns, flat=len(shape) == 1)

    def _named(self, tensor: str) -> tuple[str, ...] | None:
        text = self.metadata.get(COLUMNS_KEY + tensor)
        if text is None:
            return None
        try:
            names = json.loads(text)
        except ValueError:
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TrainingError(
                f"{self.path}: its metadata {COLUMNS_KEY}{tensor} is no JSON list of column names"
            )
        return tuple(names)

    def _outputs(self) -> tuple[Any, Any]:
        outputs = self._session.get_outputs()
        scores = [o for o in outputs if o.type in ("tensor(float)", "tensor(double)", "tensor(float16)")]
        maps = [o for o in outputs if o.type.startswith("seq(map(")]
        labels = [o for o in outputs if o.type in _DTYPES and o not in scores]
        wide = [o for o in scores if len(o.shape) == 2 and o.shape[1] != 1]
        narrow = [o for o in scores if len(o.shape) == 1 or (len(o.shape) == 2 and o.shape[1] == 1)]
        label = next(iter(labels or (narrow if not wide else [])), None)
        return label, next(iter(wide or maps), None)

    def _fed(self, tensor: InputTensor, columns: Mapping[str, AnyArray], at: str) -> AnyArray:
        unnamed = [position for position, name in enumerate(tensor.columns) if not name]
        if unnamed:
            raise TrainingError(
                f"{self.path}: position {unnamed[0]} of input {tensor.name!r} has no column, so the model cannot be run; "
                "name it, or give --prediction and --confidence"
            )
        parts = [_as_dtype(name, columns[name], tensor.dtype, at) for name in tensor.columns]
        return parts[0] if tensor.flat else np.stack(parts, axis=1)

    def _confidence(self, scores: Any) -> AnyArray:
        if isinstance(scores, list):  # ZipMap: a dict of class → probability per row
            scores = np.array([list(row.values()) for row in scores], dtype=np.float32)
        scores = np.asarray(scores)
        if self.rule is None:
            shares = bool(
                np.all((scores >= 0) & (scores <= 1)) and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
            )
            kind: Any = "probabilities" if shares else "softmax"
            self.rule = ConfidenceRule(kind=kind, tensor=self.probabilities.name)
        return derive_confidence(self.rule.kind, scores)

    def _version(self, number: int) -> str:
        """The version the sidecar will send, unless it is told another: the file's own, else its digest."""
        named = self.metadata.get(VERSION_KEY, "").strip()
        if named:
            return named
        return str(number) if 0 < number < _UNSET_VERSION else f"sha256:{self.sha256[:12]}"


def _as_dtype(name: str, values: AnyArray, dtype: str, at: str) -> AnyArray:
    if dtype == "string":
        return np.where(values == None, "", values)  # noqa: E711 - elementwise
    if dtype in ("float16", "float32", "float64"):
        return values.astype(dtype)
    if np.isnan(values).any():
        raise TrainingError(
            f"{at}: column {name!r} has missing values, which the model's {dtype} input cannot take"
        )
    return values.astype(dtype)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}") from None


def _session(path: Path) -> Any:
    # Its Linux wheels phone home unless told otherwise before the first import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise TrainingError("running a model needs onnxruntime; install driftd[onnx]") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base
        raise TrainingError(
            f"{path}: not a model that onnxruntime can load: {' '.join(str(error).split())}"
        ) from None
