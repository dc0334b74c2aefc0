"""Compressed bodies: whole ones come back, everything else is refused in bounded memory."""

import gzip
import tracemalloc

import pytest
import zstandard

from monitor.ingest.errors import MalformedError, TooLargeError, UnsupportedError
from monitor.ingest.inflate import inflate

DATA = b"predictions " * 1000
GZIPPED = gzip.compress(DATA, mtime=0)  # named after its bytes, a test has one name in every process
_STREAM = zstandard.ZstdCompressor(write_content_size=False).compressobj()
UNSIZED = _STREAM.compress(DATA) + _STREAM.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", GZIPPED),
        (" GZIP ", GZIPPED),
        ("zstd", zstandard.compress(DATA)),
        ("zstd", UNSIZED),
        ("identity", DATA),
        ("", DATA),
    ],
)
def test_whole_bodies_come_back(encoding: str, body: bytes) -> None:
    assert inflate(body, encoding, len(DATA)) == DATA


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", GZIPPED * 2), ("gzip", GZIPPED[:-1]), ("gzip", GZIPPED[:30]),
        ("gzip", GZIPPED + b"junk"), ("gzip", DATA), ("gzip", b""),
        ("zstd", zstandard.compress(DATA) * 2), ("zstd", zstandard.compress(DATA)[:-1]), ("zstd", UNSIZED[:-4]),
        ("zstd", zstandard.compress(DATA) + b"junk"), ("zstd", DATA), ("zstd", b""),
    ],
)  # fmt: skip
def test_cut_doubled_and_foreign_bodies_are_malformed(encoding: str, body: bytes) -> None:
    with pytest.raises(MalformedError):
        inflate(body, encoding, 10**6)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x" * 5000])
def test_other_encodings_are_not_supported(encoding: str) -> None:
    with pytest.raises(UnsupportedError):
        inflate(DATA, encoding, 10**6)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_costs_its_limit_and_not_its_size(name: str) -> None:
    zeros = bytes(100 * 2**20)
    body = gzip.compress(zeros, 1) if name == "gzip" else zstandard.compress(zeros)
    del zeros
    limit = 4 * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(body, name, limit)
        assert tracemalloc.get_traced_memory()[1] < limit + 10 * 2**20
    finally:
        tracemalloc.stop()
