"""Where in a TOML file a key stands, so that an error can name its line.

tomllib tells values but not places. This scanner reads a text that tomllib has accepted, and therefore may
be forgiving: it follows table headers, dotted keys, inline tables and arrays, and skips everything else.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<string> \"{3} (?:\\.|[^\\])*? \"{3,5} | '{3} .*? '{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<mark> [\[\]{}=,.] )
    | (?P<space> [\ \t\r]+ )
    | (?P<bare> [^\s\[\]{}=,.\#"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def locate(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every key path of a valid TOML text, tables and array elements included.

    A table that several headers open stands where it is first named.
    """
    return _Scanner(text).document()


class Source:
    """A TOML file's name and the places of its keys."""

    def __init__(self, name: str | Path, text: str) -> None:
        self.name = str(name)
        self._lines = locate(text)

    def line(self, path: Sequence[str | int]) -> int:
        """The line of a key, or of its nearest ancestor that the file has; 1 for what it lacks wholly."""
        for length in range(len(path), 0, -1):
            found = self._lines.get(tuple(path[:length]))
            if found is not None:
                return found
        return 1


class _Scanner:
    """One pass over the tokens. `_tables` counts the elements of each array of tables met so far."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        self._next = 0
        self._lines: dict[KeyPath, int] = {}
        self._tables: dict[KeyPath, int] = {}
        line = 1
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup or ""
            if kind not in ("space", "comment"):
                self._tokens.append((kind, match.group(), line))
            line += match.group().count("\n")
        self._tokens.append(("end", "", line))

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._peek() != ("end", ""):
            if self._take("newline", "\n"):
                continue
            if self._take("mark", "["):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next][:2]

    def _take(self, kind: str, text: str) -> bool:
        found = self._peek() == (kind, text)
        self._next += found
        return found

    def _header(self) -> KeyPath:
        many = self._take("mark", "[")
        keys = self._keys()
        self._take("mark", "]")
        self._take("mark", "]")
        path: KeyPath = ()
        for position, (key, line) in enumerate(keys):
            path = (*path, key)
            if many and position == len(keys) - 1:
                self._note(path, line)
                self._tables[path] = self._tables.get(path, -1) + 1
            self._note(path, line)
            if path in self._tables:
                path = (*path, self._tables[path])
                self._note(path, line)
        return path

    def _pair(self, table: KeyPath) -> None:
        path = table
        for key, line in self._keys():
            path = (*path, key)
            self._note(path, line)
        self._take("mark", "=")
        self._value(path)

    def _keys(self) -> list[tuple[str, int]]:
        keys: list[tuple[str, int]] = []
        while True:
            kind, text, line = self._tokens[self._next]
            self._next += 1
            keys.append((next(iter(tomllib.loads(f"{text} = 0"))) if kind == "string" else text, line))
            if not self._take("mark", "."):
                return keys

    def _value(self, path: KeyPath) -> None:
        if self._take("mark", "["):
            self._elements(path)
        elif self._take("mark", "{"):
            while not self._take("mark", "}"):
                if not (self._take("mark", ",") or self._take("newline", "\n")):
                    self._pair(path)
        else:
            # A float or a time with a fraction is several tokens: the point is a mark.
            while self._peek()[0] in ("string", "bare") or self._peek() == ("mark", "."):
                self._next += 1

    def _elements(self, path: KeyPath) -> None:
        index = 0
        while not self._take("mark", "]"):
            if self._take("newline", "\n"):
                continue
            if self._take("mark", ","):
                index += 1
                continue
            self._note((*path, index), self._tokens[self._next][2])
            self._value((*path, index))

    def _note(self, path: KeyPath, line: int) -> None:
        self._lines.setdefault(path, line)
