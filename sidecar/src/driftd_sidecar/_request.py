"""A batch as one request, and what a refusal of it says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from driftd_sidecar._counted import MEDIA_TYPE
from driftd_sidecar._kind import Kind
from driftd_sidecar._spool import Frame

_LONGEST_DETAIL = 200
_COUNTS = {"Content-Type": MEDIA_TYPE, "Content-Encoding": "gzip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where batches go, and where the cells of edge mode come from. `base` is the URL of the model."""

    base: str
    model_version: str
    headers: Mapping[str, str]

    def url(self, kind: Kind) -> str:
        return f"{self.base}/{kind}"

    @property
    def cells_url(self) -> str:
        return f"{self.base}/versions/{quote(self.model_version, safe='')}/cells"


def headers_of(frame: Frame, target: Target, wall_ns: int) -> dict[str, str]:
    """The headers of one attempt, made at `wall_ns`."""
    tensors = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(frame.header_bytes),
    }
    return {
        **target.headers,
        **(tensors if frame.header_bytes else _COUNTS),
        "Idempotency-Key": frame.id,
        # By the same clock as the rows, at each attempt: sent_at is of the first, for the body may not change.
        "Date": formatdate(wall_ns / 1e9, usegmt=True),
    }


def in_force(body: bytes) -> str | None:
    """The fingerprint of the baseline that a refusal of counts names; None where there is none."""
    told = _members(body).get("fingerprint")
    return told if isinstance(told, str) else None


def detail(body: bytes) -> str:
    """What a refusal says in words, on one line (RFC 9457); empty where it says nothing."""
    told = _members(body).get("detail")
    return " ".join(told.split())[:_LONGEST_DETAIL] if isinstance(told, str) else ""


def _members(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
