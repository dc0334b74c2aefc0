"""Bytes of profiles and baselines: versioned, checked, deterministic.

Frame of both: 3 bytes of magic, 1 of version, CRC-32 of the body as uint32, the body. All numbers are
little-endian.

- Profile (`dfP`, 1): the body is one zstd frame of: rows int64, slots uint32, columns uint32, planes uint8, then
  the counts of the even and of the odd slots as that many planes of bytes, low byte first (intervals and exact
  points alternate, and the low bytes of one kind resemble each other), then the moments as float64. The CRC
  is that of the zstd frame: a frame has bits that may flip without changing what it holds.
- Baseline (`dfB`, 1): length of a JSON text uint32, the JSON text (sorted keys, ASCII), per numeric column its
  cut points as float64, per column the width of a count in bytes as uint8 and its counts, then the moments.
  It is not compressed, so that its digest, the fingerprint, depends on no library's version.
"""

import hashlib
import json
import struct
import zlib
from typing import Any, Final

import numpy as np
import zstandard

from detectors.columns import CategoricalColumn, Column, ConfidenceRule, NumericColumn, TensorMap
from detectors.counts import Baseline, Layout, Profile
from detectors.types import ColumnRole, ColumnType, DetectorError, FloatArray, IntArray

_FRAME: Final = struct.Struct("<3sBI")
_PROFILE: Final = struct.Struct("<qIIB")
_LENGTH: Final = struct.Struct("<I")
_PROFILE_MAGIC: Final = b"dfP"
_BASELINE_MAGIC: Final = b"dfB"
VERSION: Final = 1
_LEVEL: Final = 3


def encode_profile(profile: Profile) -> bytes:
    """A profile as bytes; its counts must not be negative."""
    counts = profile.counts
    if counts.size and int(counts.min()) < 0:
        raise DetectorError("a profile with negative counts cannot be stored; only differences have them")
    planes = max(1, (int(counts.max(initial=0)).bit_length() + 7) // 8)
    body = b"".join(
        (
            _PROFILE.pack(profile.rows, counts.size, profile.moments.shape[0], planes),
            _to_planes(counts[0::2], planes),
            _to_planes(counts[1::2], planes),
            profile.moments.astype("<f8").tobytes(),
        )
    )
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compress(body)
    return _FRAME.pack(_PROFILE_MAGIC, VERSION, zlib.crc32(frame)) + frame


def decode_profile(layout: Layout, data: bytes) -> Profile:
    """The profile in `data`, counted on `layout`; anything else is refused with a DetectorError."""
    checksum, frame = _open_frame(data, _PROFILE_MAGIC, "profile")
    if zlib.crc32(frame) != checksum:
        raise DetectorError("profile bytes are damaged: the checksum differs")
    columns = len(layout.columns)
    most = _PROFILE.size + 8 * layout.length + 24 * columns
    try:
        body = zstandard.ZstdDecompressor().decompress(frame, max_output_size=most)
    except zstandard.ZstdError as error:
        raise DetectorError(f"profile bytes are damaged: {error}") from error
    rows, slots, found, planes = _PROFILE.unpack_from(body)
    if (slots, found) != (layout.length, columns):
        raise DetectorError(
            f"the profile has {slots} slots of {found} columns, the baseline {layout.length} of {columns}; "
            "decode it with the baseline it was counted on"
        )
    even = (slots + 1) // 2
    middle = _PROFILE.size + even * planes
    end = _PROFILE.size + slots * planes
    counts = np.empty(slots, dtype=np.int64)
    counts[0::2] = _from_planes(body[_PROFILE.size : middle], even, planes)
    counts[1::2] = _from_planes(body[middle:end], slots - even, planes)
    moments = np.frombuffer(body, dtype="<f8", offset=end).astype(np.float64).reshape(columns, 3)
    return Profile(rows=rows, counts=counts, moments=moments)


def encode_baseline(baseline: Baseline) -> bytes:
    """A baseline as bytes; equal baselines give equal bytes. The fingerprint is not among them."""
    head = json.dumps(
        {
            "columns": [_describe(column) for column in baseline.columns],
            "confidence": None
            if baseline.confidence is None
            else {"kind": baseline.confidence.kind, "tensor": baseline.confidence.tensor},
            "pane_seconds": baseline.pane_seconds,
            "rows": baseline.profile.rows,
            "source": baseline.source,
            "tensors": [
                {"name": t.name, "datatype": t.datatype, "kind": t.kind, "columns": list(t.columns)}
                for t in baseline.tensors
            ],
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode("ascii")
    parts = [_LENGTH.pack(len(head)), head]
    parts += [c.cuts.astype("<f8").tobytes() for c in baseline.columns if isinstance(c, NumericColumn)]
    for part in baseline.layout.slices:
        counts = baseline.profile.counts[part]
        width = next(w for w in (1, 2, 4, 8) if int(counts.max(initial=0)) < 256**w)
        parts += [bytes([width]), counts.astype(f"<u{width}").tobytes()]
    parts.append(baseline.profile.moments.astype("<f8").tobytes())
    body = b"".join(parts)
    return _FRAME.pack(_BASELINE_MAGIC, VERSION, zlib.crc32(body)) + body


def decode_baseline(data: bytes) -> Baseline:
    """The baseline in `data`, with its fingerprint; anything else is refused with a DetectorError."""
    checksum, body = _open_frame(data, _BASELINE_MAGIC, "baseline")
    if zlib.crc32(body) != checksum:
        raise DetectorError("baseline bytes are damaged: the checksum differs")
    try:
        return _read_baseline(body, hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError, ValueError, IndexError, struct.error) as error:
        raise DetectorError(f"baseline bytes are damaged: {error!r}") from error


def fingerprint(baseline: Baseline) -> str:
    """The sha256, in hex, of the baseline's bytes."""
    return hashlib.sha256(encode_baseline(baseline)).hexdigest()


def _open_frame(data: bytes, magic: bytes, what: str) -> tuple[int, bytes]:
    if len(data) < _FRAME.size:
        raise DetectorError(f"{what} bytes are damaged: {len(data)} bytes are no frame")
    found, version, checksum = _FRAME.unpack_from(data)
    if found != magic:
        raise DetectorError(f"these bytes are no {what}: they begin with {found!r}, not {magic!r}")
    if version != VERSION:
        raise DetectorError(f"{what} bytes have version {version}, this code reads {VERSION}; update driftd")
    return checksum, data[_FRAME.size :]


def _to_planes(counts: IntArray, planes: int) -> bytes:
    octets = np.ascontiguousarray(counts, dtype="<u8").view(np.uint8).reshape(-1, 8)
    return octets[:, :planes].T.tobytes()


def _from_planes(data: bytes, slots: int, planes: int) -> IntArray:
    octets = np.zeros((slots, 8), dtype=np.uint8)
    octets[:, :planes] = np.frombuffer(data, dtype=np.uint8).reshape(planes, slots).T
    return octets.view("<u8").reshape(slots).astype(np.int64)


def _describe(column: Column) -> dict[str, Any]:
    shared = {
        "name": column.name,
        "role": column.role.value,
        "type": column.type.value,
        "dtype": column.dtype,
    }
    if isinstance(column, CategoricalColumn):
        return shared | {
            "categories": list(column.categories),
            "others": sorted(column.others),
            "others_truncated": column.others_truncated,
        }
    return shared | {
        "cuts": column.cuts.size,
        "exact": column.exact,
        "decile_cuts": column.decile_cuts.tolist(),
        "evidence_cuts": column.evidence_cuts.tolist(),
    }


def _read_baseline(body: bytes, digest: str) -> Baseline:
    (length,) = _LENGTH.unpack_from(body)
    position = _LENGTH.size + length
    head = json.loads(body[_LENGTH.size : position])
    columns: list[Column] = []
    for described in head["columns"]:
        cuts = np.frombuffer(body, dtype="<f8", count=described.get("cuts", 0), offset=position)
        position += cuts.nbytes
        columns.append(_column(described, cuts.astype(np.float64)))
    layout = Layout.of(columns)
    counts = np.empty(layout.length, dtype=np.int64)
    for part in layout.slices:
        width = body[position]
        stored = np.frombuffer(body, dtype=f"<u{width}", count=part.stop - part.start, offset=position + 1)
        counts[part] = stored
        position += 1 + stored.nbytes
    moments: FloatArray = np.frombuffer(body, dtype="<f8", offset=position).astype(np.float64)
    rule = head["confidence"]
    return Baseline(
        columns=layout.columns,
        layout=layout,
        profile=Profile(rows=head["rows"], counts=counts, moments=moments.reshape(len(columns), 3)),
        pane_seconds=head["pane_seconds"],
        tensors=tuple(
            TensorMap(**(tensor | {"columns": tuple(tensor["columns"])})) for tensor in head["tensors"]
        ),
        confidence=None if rule is None else ConfidenceRule(**rule),
        source=head["source"],
        fingerprint=digest,
    )


def _column(described: dict[str, Any], cuts: FloatArray) -> Column:
    name, dtype = described["name"], described["dtype"]
    role, kind = ColumnRole(described["role"]), ColumnType(described["type"])
    if kind is ColumnType.CATEGORICAL:
        return CategoricalColumn(
            name=name,
            role=role,
            type=kind,
            dtype=dtype,
            categories=tuple(described["categories"]),
            others=frozenset(described["others"]),
            others_truncated=described["others_truncated"],
        )
    return NumericColumn(
        name=name,
        role=role,
        type=kind,
        dtype=dtype,
        cuts=cuts,
        exact=described["exact"],
        decile_cuts=np.array(described["decile_cuts"], dtype=np.int64),
        evidence_cuts=np.array(described["evidence_cuts"], dtype=np.int64),
    )
