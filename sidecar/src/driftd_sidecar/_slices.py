"""From calls to tables, whatever the application handed in."""

from collections.abc import Iterable, Sequence

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._lane import Entry, Recipe
from driftd_sidecar._notices import Notices
from driftd_sidecar._wire import Table, join


def tables_of(
    recipe: Recipe, entries: Sequence[Entry], rows: int, buffer: Buffer, notices: Notices
) -> Iterable[Table]:
    """The tables of a slice of `rows` rows. One call that cannot be encoded costs its own rows, not its neighbours'."""
    try:
        return list(recipe.tables(entries))
    except Exception as error:  # whatever the application handed in
        if len(entries) == 1:
            buffer.count_error(rows, admitted=True, kind=recipe.kind)
            notices.once(
                f"encode {recipe.kind} {type(error).__name__}",
                "%s are dropped, not encodable: %s",
                recipe.kind.unit,
                error,
            )
            return []
    groups: dict[object, list[Table]] = {}
    counts = recipe.measure(entries)[0]
    for entry, count in zip(entries, counts.tolist(), strict=True):
        for table in tables_of(recipe, [entry], count, buffer, notices):
            groups.setdefault(table.signature, []).append(table)
    return [join(tables) for tables in groups.values()]
