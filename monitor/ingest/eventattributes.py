"""A CloudEvent's attributes, from headers (binary mode) or around its data (structured mode), as KServe sets them.

CloudEvents 1.0, HTTP protocol binding: attributes travel as `ce-*` headers, percent-encoded, or as keys of one JSON
object whose `data` (JSON) or `data_base64` is the event.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Raw, UnsetType

from monitor.ingest.cloudevents import HalfName
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import check_batch_id, check_name, strict_decode
from monitor.ingest.errors import MalformedError, unprocessable
from monitor.ingest.strictjson import check_text
from monitor.ingest.times import EventTimeError, parse_time

STRUCTURED: Final = "application/cloudevents+json"
_VERSIONS: Final = ("1.0", "0.3")
_TYPES: Final[Mapping[str, HalfName]] = {
    "org.kubeflow.serving.inference.request": "request",
    "org.kubeflow.serving.inference.response": "response",
}
_READ: Final = ("specversion", "id", "type", "source", "time", "inferenceservicename", "component")


class _Structured(msgspec.Struct):
    """What is read of a structured event; extensions that nobody asks for are let through."""

    specversion: str
    id: str
    type: str
    source: str
    time: str | UnsetType | None = UNSET
    inferenceservicename: str | UnsetType | None = UNSET
    component: str | UnsetType | None = UNSET
    data: Raw | UnsetType = UNSET
    data_base64: str | UnsetType | None = UNSET


_STRUCTURED: Final = msgspec.json.Decoder(_Structured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Half an inference: which, of what service, when (None: it does not say), and its bytes."""

    id: str
    half: HalfName
    service: str | None
    time_ns: int | None
    data: bytes


def binary_attributes(headers: Mapping[str, list[str]]) -> Mapping[str, str]:
    """The attributes among lower-case headers; MalformedError (400) where one comes twice."""
    found: dict[str, str] = {}
    for name in _READ:
        values = headers.get(f"ce-{name}", [])
        if len(values) > 1:
            raise MalformedError(f"the header ce-{name} comes {len(values)} times; send it once")
        if values:
            found[name] = unquote(values[0].strip().strip('"'))
    return found


def binary_event(headers: Mapping[str, list[str]], body: bytes, limits: DecodeLimits) -> Event:
    """An event whose attributes are headers."""
    return _event(binary_attributes(headers), body, "ce-", limits)


def structured_event(body: bytes, limits: DecodeLimits) -> Event:
    """An event that is one JSON object."""
    check_text(body)
    found: _Structured = strict_decode(_STRUCTURED.decode, body)
    given: dict[str, Any] = {name: getattr(found, name) for name in _READ}
    attributes = {name: value for name, value in given.items() if isinstance(value, str)}
    if (found.data is UNSET) == (found.data_base64 in (UNSET, None)):
        raise unprocessable("/data", "an event holds its data in exactly one of 'data' and 'data_base64'")
    if isinstance(found.data_base64, str):
        try:
            data = base64.b64decode(found.data_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise unprocessable("/data_base64", "data_base64 is not base64") from error
    else:
        assert found.data is not UNSET
        data = bytes(found.data)
    return _event(attributes, data, "/", limits)


def _event(attributes: Mapping[str, str], data: bytes, prefix: str, limits: DecodeLimits) -> Event:
    for name in ("specversion", "id", "type", "source"):
        if not attributes.get(name):
            raise MalformedError(f"no CloudEvent: {prefix}{name} is missing")
    if attributes["specversion"] not in _VERSIONS:
        raise MalformedError(f"{prefix}specversion {attributes['specversion'][:20]!r} is unknown; send 1.0")
    half = _TYPES.get(attributes["type"])
    if half is None:
        raise unprocessable(
            f"{prefix}type",
            f"the type {attributes['type'][:80]!r} is no inference; they are {', '.join(_TYPES)}",
        )
    component = attributes.get("component") or "predictor"
    if component != "predictor":
        # A transformer or explainer answers under the same id, and its output is no prediction.
        raise unprocessable(
            f"{prefix}component",
            f"the component is {component[:40]!r}; put the logger on the predictor alone",
        )
    check_batch_id(attributes["id"], limits)
    service = attributes.get("inferenceservicename") or None
    if service is not None:
        check_name(service, f"{prefix}inferenceservicename", limits)
    time = attributes.get("time")
    try:
        time_ns = parse_time(time) if time else None
    except EventTimeError as error:
        raise unprocessable(f"{prefix}time", str(error)) from error
    return Event(id=attributes["id"], half=half, service=service, time_ns=time_ns, data=data)
