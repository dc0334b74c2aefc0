"""Payload bytes come back as they went, and nothing else comes back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ingest.batch import NUMPY_TYPES, Batch, Tensor, decode_payload, encode_payload, text_tensor
from monitor.ingest.elements import decode_elements, encode_elements
from monitor.ingest.errors import PayloadDamagedError


def batch(times: list[int]) -> Batch:
    rows = len(times)
    rng = np.random.default_rng(3)
    tensors = [
        Tensor(name=name, datatype=name, shape=(rows, 2), data=rng.bytes(rows * 2 * dtype.itemsize))
        for name, dtype in NUMPY_TYPES.items()
    ]
    return Batch(
        id="0195-é",
        model_version="3",
        parameters={"driftd": 1, "sample_rate": 0.5, "note": None},
        rows=rows,
        times_ns=np.array(times, dtype=np.int64),
        tensors=(*tensors, text_tensor("t", ["ä", "", None][:rows])),
        tags={"region": text_tensor("driftd.tag.region", ["eu", None, ""][:rows])},
        row_ids=text_tensor("driftd.id", [str(row) for row in range(rows)]),
        body_sha256="ab" * 32,
    )


def as_dict(found: Batch) -> dict[str, Any]:
    fields = {name: getattr(found, name) for name in Batch.__slots__}
    return fields | {"times_ns": found.times_ns.tolist()}


@pytest.mark.parametrize("times", [[1, 2, 3], [5, 5, 5], [-(2**63), 0, 2**63 - 1], [7]])
def test_every_field_survives_a_round_trip(times: list[int]) -> None:
    assert as_dict(decode_payload(encode_payload(batch(times)))) == as_dict(batch(times))


def test_one_time_for_all_rows_takes_no_room() -> None:
    assert len(encode_payload(batch([5, 5, 5]))) < len(encode_payload(batch([5, 5, 6])))


def test_every_damaged_byte_and_every_cut_is_noticed() -> None:
    payload = encode_payload(batch([1, 2, 3]))
    for at in range(len(payload)):
        damaged = bytearray(payload)
        damaged[at] ^= 0x10
        # The three reserved bytes of the head carry nothing.
        if at in (5, 6, 7):
            continue
        with pytest.raises(PayloadDamagedError):
            decode_payload(damaged)
    for cut in range(0, len(payload), 7):
        with pytest.raises(PayloadDamagedError):
            decode_payload(payload[:cut])
    with pytest.raises(PayloadDamagedError):
        decode_payload(payload + b"x")


def test_selected_rows_are_those_of_numpy() -> None:
    keep = np.array([True, False, True])
    for tensor in batch([1, 2, 3]).tensors:
        chosen = tensor.select(keep)
        assert chosen.shape[0] == 2
        if tensor.datatype == "BYTES":
            assert chosen.texts() == ["ä", None]
        else:
            assert chosen.data == tensor.array()[keep].tobytes()


@settings(deadline=None)
@given(st.lists(st.none() | st.binary(max_size=20)))
def test_elements_survive_a_round_trip(values: list[bytes | None]) -> None:
    data = encode_elements(values)
    assert decode_elements(data, len(values)) == values
    for wrong in (data + b"\x00", data[:-1]) if data else (b"\x00",):
        with pytest.raises(ValueError):
            decode_elements(wrong, len(values))
