"""The key counter against the standard library's parser, which sees every pair."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ingest.errors import MalformedError
from monitor.ingest.strictjson import (
    OutOfRange,
    StrictReader,
    count_keys,
    find_duplicate,
    has_only,
    text_traps,
)

_strings = st.text(alphabet=st.sampled_from('":\\, \n\tuaé{}[]'), max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_strings, inner, max_size=4),
    max_leaves=30,
)


def pairs_in(text: str) -> int:
    count = 0

    def hook(pairs: list[tuple[str, Any]]) -> None:
        nonlocal count
        count += len(pairs)

    json.loads(text, object_pairs_hook=hook)
    return count


@given(
    _values,
    st.sampled_from([None, 1]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " \t\r\n: ")]),
    st.booleans(),
)
def test_keys_are_counted_as_the_parser_sees_them(
    value: Any, indent: int | None, separators: tuple[str, str], ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only)
    assert count_keys(text.encode()) == pairs_in(text)
    assert has_only(text.encode(), pairs_in(text))
    if pairs_in(text):
        assert not has_only(text.encode(), pairs_in(text) - 1)


def test_blanks_behind_a_key_cost_no_quadratic_time() -> None:
    assert count_keys(b'{"a"' + b" " * 2_000_000 + b": 1}") == 1


def test_a_duplicate_is_found_by_name_even_at_the_end_of_a_wide_object() -> None:
    wide = ", ".join(f'"k{i}": 0' for i in range(50_000))
    assert find_duplicate(f"{{{wide}}}".encode()) is None
    assert find_duplicate(f'{{{wide}, "k49999": 1}}'.encode()) == "k49999"


@given(st.text(alphabet=st.characters(categories=["Cs"]) | st.sampled_from("a\\\U0001f600"), max_size=8))
def test_lone_surrogates_become_nul_and_nothing_else_changes(text: str) -> None:
    body, traps = text_traps(json.dumps(text).encode())
    # The parser joins pairs of escapes; what is left of the surrogates was alone.
    seen = json.loads(json.dumps(text))
    expected = "".join("\x00" if "\ud800" <= c <= "\udfff" else c for c in seen)
    assert json.loads(body) == expected
    assert traps == ("\x00" in expected)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity}', "[1,]", "[" * 100_000, '{"a":1,"a":1}']
)
def test_the_strict_reader_refuses(text: str) -> None:
    with pytest.raises(MalformedError):
        StrictReader().read(text.encode())


def test_numbers_out_of_range_are_marked() -> None:
    assert StrictReader().read(b"[1e999, -1E400, 1e-999]") == [OutOfRange("1e999"), OutOfRange("-1E400"), 0.0]
    assert isinstance(StrictReader().read(b"9" * 5000), OutOfRange)
