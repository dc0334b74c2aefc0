"""Reading the configuration: one TOML file, checked whole before any of it is used.

`load` reports every mistake at once, each with its file, line and key, and with the key that was probably
meant. `check` returns what is allowed but unwise.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from monitor.config_schema import (
    Alerts,
    AnyReceiver,
    Auth,
    Config,
    EffectThresholds,
    Log,
    ModelSettings,
    RouteTable,
    Server,
    Storage,
)
from monitor.config_secrets import (
    HeartbeatTarget,
    PagerDutyReceiver,
    SecretError,
    SlackReceiver,
    Token,
    WebhookReceiver,
)
from monitor.config_source import KeyPath, Source
from monitor.config_warnings import check

__all__ = [
    "Alerts",
    "AnyReceiver",
    "Auth",
    "Config",
    "ConfigError",
    "EffectThresholds",
    "HeartbeatTarget",
    "Log",
    "ModelSettings",
    "PagerDutyReceiver",
    "RouteTable",
    "SecretError",
    "Server",
    "SlackReceiver",
    "Storage",
    "Token",
    "WebhookReceiver",
    "check",
    "load",
    "parse",
]

_WORDS = {
    "extra_forbidden": "no such key",
    "missing": "required, but missing",
    "model_type": "a table is expected here",
    "dict_type": "a table is expected here",
    "mapping_type": "a table is expected here",
    "is_instance_of": "a table is expected here",
    "tuple_type": "an array is expected here",
    "string_type": "text in quotes is expected here",
    "bool_type": "true or false is expected here",
    "float_type": "a number is expected here",
    "int_type": "a whole number is expected here",
}


class ConfigError(Exception):
    """A configuration that cannot be used; `errors` are lines `file:line: key.path: message`."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


def load(path: str | Path) -> Config:
    """The configuration in a file; raises ConfigError with every mistake in it."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text"]) from None
    return parse(text, name=str(path), directory=path.resolve().parent)


def parse(text: str, *, name: str = "config.toml", directory: Path | None = None) -> Config:
    """The configuration in a text; relative paths in it stand in `directory`. Raises ConfigError."""
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_error(name, text, str(error))]) from None
    try:
        return Config.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        raise ConfigError(_complaints(error, data, Source(name, text))) from None


def _syntax_error(name: str, text: str, message: str) -> str:
    match = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = int(match.group(1)) if match and match.group(1) else text.rstrip("\n").count("\n") + 1
    message = message[: match.start()] if match else message
    return f"{name}:{line}: not valid TOML: {message[:1].lower()}{message[1:]}"


def _complaints(error: ValidationError, data: Mapping[str, Any], source: Source) -> list[str]:
    entries = [
        (*_resolve(entry["loc"]), entry) for entry in error.errors(include_url=False, include_input=False)
    ]
    in_defaults = {(path[1:], entry["type"]) for path, _, entry in entries if path[0] == "defaults"}
    found: dict[tuple[int, KeyPath, str], None] = {}
    for path, section, entry in entries:
        context = entry.get("ctx", {})
        if (
            path[0] == "models"
            and (path[2:], entry["type"]) in in_defaults
            and path[2] not in data["models"][path[1]]
        ):
            continue  # a mistake of [defaults], reported there
        place_of = context.get("at", (*path, "type") if entry["type"].startswith("union_tag") else path)
        message = _message(entry["type"], entry["msg"], context) + _did_you_mean(
            entry["type"], path, section, context
        )
        found[source.line(place_of), place_of, message] = None
    ordered = sorted(found, key=lambda item: item[0])
    return [f"{source.name}:{line}: {_place(path)}: {message}" for line, path, message in ordered]


def _message(kind: str, text: str, context: Mapping[str, Any]) -> str:
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"should be {context['expected']}"
    if kind.startswith("union_tag"):
        return f"should be one of {context.get('expected_tags', 'slack, webhook')}"
    if kind == "string_pattern_mismatch" and context.get("pattern", "").startswith("^(?:off|"):
        return 'a time of day is "HH:MM", such as "08:00" (UTC), or "off"'
    if kind == "string_pattern_mismatch":
        return "a name has letters, digits, - and _ and begins with a letter or digit"
    return _WORDS.get(kind, text[:1].lower() + text[1:])


def _did_you_mean(
    kind: str, path: KeyPath, section: type[BaseModel] | None, context: Mapping[str, Any]
) -> str:
    wrong, known = "", []
    if kind == "extra_forbidden" and section is not None:
        wrong, known = str(path[-1]), [field.alias or name for name, field in section.model_fields.items()]
    elif kind == "union_tag_invalid":
        wrong, known = str(context["tag"]), re.findall(r"\w+", context["expected_tags"])
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f" (did you mean {close[0]}?)"
    return f" (known here: {', '.join(known)})" if known and kind == "extra_forbidden" else ""


def _resolve(loc: Sequence[str | int]) -> tuple[KeyPath, type[BaseModel] | None]:
    """pydantic's location as a path in the file, and the section that its last part stands in.

    Two kinds of parts stand for nothing in the file: the tag of a union, and the `[key]` of a bad table name.
    """
    path: list[str | int] = []
    annotation: Any = Config
    section: type[BaseModel] | None = None
    for part in loc:
        while get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        tagged = _tagged(annotation, part)
        if part == "[key]":
            continue
        if tagged is not None:
            annotation = tagged
            continue
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
            named = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
            annotation = named.get(str(part))
        else:
            # An element of an array, or the table behind a name: the type of the values comes last, dots aside.
            inner = [argument for argument in get_args(annotation) if argument is not Ellipsis]
            annotation = inner[-1] if inner else None
        path.append(part)
    return tuple(path), section


def _tagged(annotation: Any, tag: str | int) -> type[BaseModel] | None:
    """The member of a union of receivers that carries `tag` as its type, None for anything else."""
    for member in get_args(annotation):
        fields = member.model_fields if isinstance(member, type) and issubclass(member, BaseModel) else {}
        if "type" in fields and tag in get_args(fields["type"].annotation):
            found: type[BaseModel] = member
            return found
    return None


def _place(path: Sequence[str | int]) -> str:
    """A key path as a reader writes it: `receivers.ops.url`, `auth.tokens[0].name`, `models."a b".pane`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if bare else '"' + part.replace('"', '\\"') + '"')
    return text
