"""What KServe's inference logger sends, as its own documentation shows it, and a baseline of the iris columns.

Events: kserve/kserve, docs/samples/logger/basic/README.md (V1). V2 bodies: docs/samples/v1beta1/sklearn/v2.
Headers: pkg/logger/worker.go (names) and pkg/logger/handler.go: the content type is that of the *request* in both
events, so it says nothing about a response; `curl -d` makes it a form.
"""

import json
from collections.abc import Mapping

import numpy as np

from detectors.profile import Baseline, ColumnData, TensorMap, build_baseline
from detectors.types import ColumnRole, ColumnType

EVENT_ID = "0009174a-24a8-4603-b098-09c8799950e9"
INSTANCES = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
V1_REQUEST = b'{  "instances": [    [6.8,  2.8,  4.8,  1.4],    [6.0,  3.4,  4.5,  1.6]  ]}'
V1_RESPONSE = b'{"predictions": [1, 1]}'
V2_REQUEST = json.dumps(
    {"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": INSTANCES}]}
).encode()
V2_RESPONSE = json.dumps(
    {
        "id": "823248cc-d770-4a51-9606-16803395569c",
        "model_name": "iris-classifier",
        "model_version": "v1.0.0",
        "outputs": [
            {"data": [1, 2], "datatype": "FP32", "name": "predict", "parameters": None, "shape": [2]}
        ],
    }
).encode()
FORM = "application/x-www-form-urlencoded"
COLUMNS = ("sepal length", "sepal width", "petal length", "petal width")


def headers(half: str, *, event_id: str = EVENT_ID, time: str, **more: str) -> Mapping[str, str]:
    """The headers of one event; `more` with _ for -, "-" leaves one out."""
    given = {
        "content-type": FORM,
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": f"org.kubeflow.serving.inference.{half}",
        "ce-source": "http://localhost:9081/",
        "ce-time": time,
        "ce-inferenceservicename": "sklearn-iris",
        "ce-namespace": "default",
        "ce-component": "predictor",
        "ce-endpoint": "",
        "ce-metadata": "{}",
        "ce-traceparent": "00-90bdf848647d50283394155d2df58f19-84dacdfdf07cadfc-00",
        "user-agent": "Go-http-client/1.1",
        "accept-encoding": "gzip",
    } | {name.replace("_", "-"): value for name, value in more.items()}
    return {name: value for name, value in given.items() if value != "-"}


def iris(pane_seconds: int = 900) -> Baseline:
    """A baseline of iris-like rows whose one input tensor holds the four columns, and whose output is a class."""
    rng = np.random.default_rng(3)
    columns = [
        ColumnData(
            name=name,
            role=ColumnRole.FEATURE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            values=rng.normal(4, 1, 300).astype(np.float32),
        )
        for name in COLUMNS
    ]
    columns.append(
        ColumnData(
            name="class",
            role=ColumnRole.PREDICTION,
            type=ColumnType.CATEGORICAL,
            dtype="int64",
            values=rng.integers(0, 3, 300),
        )
    )
    tensors = (
        TensorMap(name="input-0", datatype="FP32", kind="input", columns=COLUMNS),
        TensorMap(name="predict", datatype="FP32", kind="output", columns=("class",)),
    )
    return build_baseline(columns, pane_seconds, tensors, None, "test")
