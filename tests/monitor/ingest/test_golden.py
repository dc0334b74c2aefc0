"""The envelope that the sidecar's author wrote down, read by the daemon."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from monitor.ingest.accept import accept
from monitor.ingest.batch import decode_payload, encode_payload
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import open_body
from monitor.ingest.schema import VersionHandle
from monitor.ingest.times import SECOND, TimeLimits

GOLDEN = Path(__file__).parents[2] / "golden"


def test_the_golden_envelope_has_the_values_written_beside_it() -> None:
    described: dict[str, Any] = json.loads((GOLDEN / "envelope_v1.json").read_text("utf-8"))
    body = (GOLDEN / "envelope_v1.bin").read_bytes()
    opened = open_body(body, int(described["headers"]["Inference-Header-Content-Length"]), DecodeLimits())
    version = VersionHandle(version_id=1, version=opened.model_version, baseline=None)
    listed = {tensor["name"]: tensor for tensor in described["tensors"]}
    now = max(listed["driftd.ts"]["values"]) + SECOND
    outcome = accept(decode_body(opened, None), version, now, None, TimeLimits())
    assert (outcome.accepted, outcome.rejected, outcome.errors) == (described["rows"], 0, ())
    assert outcome.batch is not None
    batch = decode_payload(encode_payload(outcome.batch))
    assert (batch.id, batch.model_version) == (described["id"], described["model_version"])
    assert {key: batch.parameters[key] for key in described["parameters"]} == described["parameters"]
    assert batch.times_ns.tolist() == listed.pop("driftd.ts")["values"]
    assert batch.row_ids is not None
    assert batch.row_ids.texts() == listed.pop("driftd.id")["values"]
    for key in batch.tags:
        assert batch.tag_values(key) == listed.pop(f"driftd.tag.{key}")["values"]
    assert {tensor.name for tensor in batch.tensors} == set(listed)
    for tensor in batch.tensors:
        expected = listed[tensor.name]
        assert (tensor.datatype, list(tensor.shape)) == (expected["datatype"], expected["shape"])
        if tensor.datatype == "BYTES":
            assert tensor.texts() == np.array(expected["values"], dtype=object).ravel().tolist()
        else:
            values = np.array(expected["values"], dtype=object).astype(tensor.array().dtype)
            np.testing.assert_array_equal(tensor.array(), values.reshape(tensor.array().shape))
