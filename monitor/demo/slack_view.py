"""A Slack message on the terminal, roughly as the channel shows it."""

import html
import re
from typing import Any

_LINK = re.compile(r"<(https?://[^|>]+)\|([^>]+)>")
_BOLD = re.compile(r"(?<!\w)\*([^*\n]+)\*(?!\w)")


def lines(body: dict[str, Any]) -> list[str]:
    """The blocks of an incoming-webhook body as lines of plain text."""
    shown: list[str] = []
    for block in body.get("blocks", []):
        shown.extend(_block(block))
    return shown or [str(body.get("text", ""))]


def _block(block: dict[str, Any]) -> list[str]:
    kind = block["type"]
    if kind == "header":
        title = _plain(block["text"]["text"])
        return [title, "─" * min(len(title), 72)]
    if kind == "section":
        found = _plain(block["text"]["text"]).splitlines() if "text" in block else []
        return found + ["   ".join(_plain(field["text"]).splitlines()) for field in block.get("fields", [])]
    if kind == "context":
        return [" · ".join(_plain(element.get("text", "")) for element in block["elements"])]
    if kind == "actions":
        return ["  ".join(f"[{_plain(e['text']['text'])}] {e.get('url', '')}" for e in block["elements"])]
    return [""] if kind == "divider" else []


def _plain(text: str) -> str:
    return html.unescape(_BOLD.sub(r"\1", _LINK.sub(r"\2 (\1)", text)))
