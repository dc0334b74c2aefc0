"""The outermost object of every body: which batch, which model version, which of the formats."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from monitor.ingest.decoded import DecodeLimits, Style
from monitor.ingest.digest import body_digest
from monitor.ingest.errors import Issue, MalformedError, UnprocessableError, pointer_token, unprocessable
from monitor.ingest.lifting import MARK, Lifted, lift
from monitor.ingest.strictjson import (
    DuplicateKeyError,
    check_text,
    find_duplicate,
    has_only,
    read_parameters,
    text_traps,
)
from monitor.ingest.times import EventTimeError, time_ns

ANONYMOUS_PREFIX: Final = "anon-"
"""Ids that begin so are given by the daemon to batches without one."""
MAX_PARAMETER_BYTES: Final = 65_536

_NAMED_VERSION: Final = re.compile(rb'"model_version"\s*:\s*"([^"\\]{1,200})"')
_GLANCE_BYTES: Final = 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PATH: Final = re.compile(r" - at `\$(.*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*?)`")
_REQUIRED: Final = re.compile(r"^Object missing required field `(.*?)`")


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """Every key an outermost object may have; what they hold is decoded by the format they belong to."""

    model_version: str
    id: str | UnsetType | None = UNSET
    model_name: str | UnsetType | None = UNSET
    parameters: Raw | UnsetType = UNSET
    rows: Raw | UnsetType = UNSET
    columns: Raw | UnsetType = UNSET
    inputs: Raw | UnsetType = UNSET
    outputs: Raw | UnsetType = UNSET
    ts: Raw | UnsetType = UNSET
    ids: Raw | UnsetType = UNSET
    tags: Raw | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    confidence: Raw | UnsetType = UNSET


class LabelsHead(Head, forbid_unknown_fields=True, kw_only=True):
    """The same of a body of labels, which are of requests, whatever the version that answered them."""

    model_version: str | UnsetType = UNSET  # type: ignore[assignment]  # which Head asks for


_KEYS_OF: Final[Mapping[Style, frozenset[str]]] = {
    "rows": frozenset({"rows"}),
    "columns": frozenset({"columns", "ts", "ids", "tags", "prediction", "confidence"}),
    "tensors": frozenset({"model_name", "inputs", "outputs"}),
}
_COMMON: Final = frozenset({"id", "model_version", "parameters"})
_HEAD_DECODER: Final = msgspec.json.Decoder(Head)
_LABELS_DECODER: Final = msgspec.json.Decoder(LabelsHead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A body whose outermost object has been read.

    `json` is its JSON text with `traps` (escaped NULs in it, lone surrogates among them), `tail` the binary
    tensors behind it. `head_keys` counts the keys accounted for by now. `lifted`, if there is one, is the text that
    `head` is of: that of `json` without its long arrays.
    """

    style: Style
    id: str | None
    model_version: str
    parameters: Mapping[str, Any]
    head: Head
    json: bytes
    traps: bool
    tail: memoryview | None
    head_keys: int
    body_sha256: str
    limits: DecodeLimits
    lifted: Lifted | None = None

    def piece(self, raw: Raw) -> tuple[bytes | Raw, bool]:
        """The text of a value of the head, and whether it is an array that was lifted out of it.

        MalformedError for one with such an array inside: the body has to be read whole.
        """
        if self.lifted is None:
            return raw, False
        array = self.lifted.array(memoryview(raw))
        if array is None and self.lifted.is_in(memoryview(raw)):
            raise MalformedError("an array stands where none belongs")
        return (raw, False) if array is None else (array, True)

    def settle_keys(self, counted: int) -> None:
        """Refuse the body if it has more keys than the `counted` distinct ones below the outermost object."""
        # What was lifted has none.
        text = self.json if self.lifted is None else self.lifted.text
        check_keys(text, self.head_keys + counted, whole=self.json)


def open_body(
    body: bytes,
    header_length: int | None,
    limits: DecodeLimits,
    typed: Callable[[str], msgspec.json.Decoder[Any] | None] | None = None,
) -> Opened:
    """Read the outermost object of a JSON body, or of the JSON header of an OIP binary body.

    `header_length` is the value of Inference-Header-Content-Length, None for a JSON body. `typed` gives the decoder made
    for a model version, if there is one: then rows or columns may be decoded with the outermost object. MalformedError (400)
    for what is no JSON, UnprocessableError (422) for a wrong, unknown or missing key.
    """
    digest = body_digest(body)
    text, tail = _parts(body, header_length, limits)
    text, traps = text_traps(text)
    lifted = lift(text) if header_length is None and not traps else None
    head = None if lifted is None else _lifted_head(lifted)
    if head is None:
        lifted = None
        if typed is not None and header_length is None and not traps:
            head = _typed_head(text, typed)
    if head is None:
        head = strict_decode(_HEAD_DECODER.decode, text)
    check_name(head.model_version, "/model_version", limits)
    return _opened(head, head.model_version, text, tail, digest, limits, traps=traps, lifted=lifted)


def open_labels(body: bytes, header_length: int | None, limits: DecodeLimits) -> Opened:
    """As `open_body`, for labels: a model version may be named and says nothing."""
    text, tail = _parts(body, header_length, limits)
    text, traps = text_traps(text)
    head = strict_decode(_LABELS_DECODER.decode, text)
    return _opened(head, "", text, tail, body_digest(body), limits, traps=traps, lifted=None)


def _parts(body: bytes, header_length: int | None, limits: DecodeLimits) -> tuple[bytes, memoryview | None]:
    """The JSON object of a body, and the binary tensors behind it."""
    text, tail = body, None
    if header_length is not None:
        if not 0 < header_length <= len(body):
            raise MalformedError(
                f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes"
            )
        if header_length > limits.header_bytes:
            raise MalformedError(f"the JSON header has {header_length} bytes; at most {limits.header_bytes}")
        text, tail = body[:header_length], memoryview(body)[header_length:]
    check_text(text)
    if not text.lstrip(b" \t\r\n").startswith(b"{"):
        raise MalformedError("the body is not a JSON object")
    return text, tail


def _opened(
    head: Head,
    version: str,
    text: bytes,
    tail: memoryview | None,
    digest: str,
    limits: DecodeLimits,
    *,
    traps: bool,
    lifted: Lifted | None,
) -> Opened:
    given = _given(head)
    style = _style(given)
    parameters, parameter_keys = body_parameters(head.parameters)
    batch_id = None if head.id is UNSET else head.id
    if batch_id is not None:
        check_batch_id(batch_id, limits)
    return Opened(
        style=style,
        id=batch_id,
        model_version=version,
        parameters=parameters,
        head=head,
        json=text,
        traps=traps,
        tail=tail,
        head_keys=len(given) + parameter_keys,
        body_sha256=digest,
        limits=limits,
        lifted=lifted,
    )


def _lifted_head(lifted: Lifted) -> Head | None:
    """The head of a text without its arrays; None where it is wrong, or a mark in it where the formats ask no one."""
    try:
        head: Head = _HEAD_DECODER.decode(lifted.text)
    except (ValueError, RecursionError):
        return None
    if head.rows is not UNSET or lifted.is_in(head.parameters if head.parameters is not UNSET else b""):
        return None
    texts = (head.model_version, head.id, head.model_name)
    return None if any(isinstance(text, str) and MARK in text for text in texts) else head


def _typed_head(text: bytes, typed: Callable[[str], msgspec.json.Decoder[Any] | None]) -> Head | None:
    """The head by the decoder of the version that the body seems to name; None where that is not its body."""
    # A glance may be wrong, so the decoded version has the last word.
    named = _NAMED_VERSION.search(text, 0, _GLANCE_BYTES) or _NAMED_VERSION.search(
        text, len(text) - _GLANCE_BYTES
    )
    if named is None:
        return None
    version = named[1].decode()
    decoder = typed(version)
    if decoder is None:
        return None
    try:
        head: Head = decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    return head if head.model_version == version else None


def untyped(opened: Opened) -> Opened:
    """The same body with its parts undecoded, for the general decoders."""
    return replace(opened, head=strict_decode(_HEAD_DECODER.decode, opened.json), lifted=None)


def check_keys(text: bytes, distinct: int, *, whole: bytes | None = None) -> None:
    """Refuse a JSON text that has more keys than the `distinct` ones its objects were decoded to.

    `whole` is the text to name the key of, where parts without keys were left out of `text`.
    """
    if not has_only(text, distinct):
        key = find_duplicate(text if whole is None else whole)
        if key is not None:
            raise DuplicateKeyError(key)
        raise MalformedError("a key occurs twice in one object; send it once")


def strict_decode(decode: Callable[[Any], Any], text: object, base: str = "") -> Any:
    """msgspec's value, its faults as our errors with a pointer below `base`."""
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        pointer, detail = _explain(str(error))
        raise unprocessable(base + pointer, detail) from error
    except msgspec.DecodeError as error:
        raise MalformedError(f"the body is not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"the body is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise MalformedError("the JSON is nested too deeply") from error


def check_name(name: str, pointer: str, limits: DecodeLimits) -> None:
    """Refuse an empty or overlong name, and one with control characters."""
    if not 0 < len(name) <= limits.name_length:
        raise unprocessable(pointer, f"a name has 1 to {limits.name_length} characters, not {len(name)}")
    if _CONTROL.search(name):
        raise unprocessable(pointer, "a name holds no NUL, lone surrogate or other control character")


def check_batch_id(key: str, limits: DecodeLimits) -> None:
    """Refuse a batch id that is no name, or that looks like one the daemon gives."""
    check_name(key, "/id", limits)
    if key.startswith(ANONYMOUS_PREFIX):
        raise unprocessable(
            "/id", f"ids beginning with {ANONYMOUS_PREFIX!r} are the daemon's own; send another"
        )


def id_of(given: str | None, key: str, limits: DecodeLimits) -> str:
    """The batch id of a body with `given` as its own in a request with this key. MalformedError where the two differ."""
    if given is not None and given != key:
        raise MalformedError("Idempotency-Key and the body's id differ; send one, or the same in both")
    check_batch_id(key, limits)
    return key


def _explain(message: str) -> tuple[str, str]:
    path = _PATH.search(message)
    detail = message[: path.start()] if path else message
    steps = re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", path[1]) if path else []
    pointer = "".join(f"/{pointer_token(name or index)}" for name, index in steps)
    unknown, required = _UNKNOWN.match(detail), _REQUIRED.match(detail)
    if unknown:
        return f"{pointer}/{pointer_token(unknown[1])}", f"unknown key {unknown[1]!r}"
    if required:
        return f"{pointer}/{pointer_token(required[1])}", f"the key {required[1]!r} is missing"
    return pointer, detail


def _given(head: Head) -> tuple[str, ...]:
    """The keys that the outermost object has."""
    values = msgspec.structs.astuple(head)
    return tuple(
        [name for name, value in zip(head.__struct_fields__, values, strict=True) if value is not UNSET]
    )


@lru_cache(maxsize=256)
def _style(given: tuple[str, ...]) -> Style:
    """The format whose keys these are, and no other's."""
    styles: list[Style] = []
    if "rows" in given:
        styles.append("rows")
    if "columns" in given:
        styles.append("columns")
    if "inputs" in given or "outputs" in given:
        styles.append("tensors")
    if len(styles) != 1:
        raise unprocessable(
            "", 'a body has exactly one of the keys "rows", "columns", or "inputs" with "outputs"'
        )
    style = styles[0]
    foreign = sorted({*given} - _KEYS_OF[style] - _COMMON)
    if foreign:
        issues = [
            Issue(pointer=f"/{name}", detail=f"no key of a body with {styles[0]!r}") for name in foreign
        ]
        raise UnprocessableError(f"keys of another format: {', '.join(foreign)}", issues)
    return style


def body_parameters(given: Raw | UnsetType) -> tuple[Mapping[str, Any], int]:
    """A body's parameters, those we know checked, and how many keys they have."""
    if given is UNSET:
        return {}, 0
    raw = bytes(given)
    if len(raw) > MAX_PARAMETER_BYTES:
        raise unprocessable("/parameters", f"parameters take {len(raw)} bytes; at most {MAX_PARAMETER_BYTES}")
    value, keys = read_parameters(raw)
    if value is None:
        return {}, 0
    if not isinstance(value, dict):
        raise unprocessable("/parameters", "parameters are an object")
    _check_parameters(value)
    return {name: item for name, item in value.items() if _is_scalar(item)}, keys


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    """The parameters we know must be right; unknown ones are ignored."""
    if parameters.get("driftd", 1) != 1:
        raise unprocessable("/parameters/driftd", "this daemon reads envelope version 1")
    for name in ("seen", "kept", "dropped", "failed_inferences"):
        value = parameters.get(name, 0)
        if type(value) is not int or not 0 <= value < 2**63:
            raise unprocessable(f"/parameters/{name}", "a count is an integer of at least 0")
    rate = parameters.get("sample_rate", 1.0)
    if type(rate) not in (int, float) or not 0.0 < rate <= 1.0:
        raise unprocessable("/parameters/sample_rate", "a sample rate is above 0 and at most 1")
    for name in ("ts", "sent_at"):
        if parameters.get(name) is not None:
            try:
                time_ns(parameters[name])
            except EventTimeError as error:
                raise unprocessable(f"/parameters/{name}", str(error)) from error


def sent_ns(parameters: Mapping[str, Any]) -> int | None:
    """What the sender's clock showed when it made the batch, nanoseconds; None where it does not say."""
    value = parameters.get("sent_at")
    return None if value is None else time_ns(value)


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" not in value
    return value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 2**63)
