"""Statements compiled once and run on the driver's own cursor, for the paths where that shows: what is posted.

SQLAlchemy Core spends about 100 µs per execution on finding a statement that it has compiled before, three times what
SQLite needs to run it; with a batch per request that would be the largest cost of ingest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Dialect, Insert, Table


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    def execute(self, sql: str, parameters: Any, /) -> object:
        """Run a statement."""

    def executemany(self, sql: str, parameters: Any, /) -> object:
        """Run a statement once for each of several rows."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def close(self) -> object:
        """Free the statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An INSERT in the driver's spelling; `order` is that of its positional parameters, None if they are named."""

    sql: str
    order: tuple[str, ...] | None
    convert: Mapping[str, Callable[[Any], Any]]

    def run(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Insert one row; a value that its column's type refuses raises as it would in Core."""
        for name, convert in self.convert.items():
            values[name] = convert(values[name])
        cursor.execute(
            self.sql, values if self.order is None else tuple([values[name] for name in self.order])
        )

    def run_all(self, cursor: Cursor, common: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows that have the values `common` beside their own; only those are converted."""
        shared = {
            name: self.convert[name](value) if name in self.convert else value
            for name, value in common.items()
        }
        whole, order = [shared | row for row in rows], self.order
        cursor.executemany(
            self.sql, whole if order is None else [tuple([row[name] for name in order]) for row in whole]
        )


def driver_errors(dialect: Dialect) -> type[Exception]:
    """What the driver raises by itself, to be translated."""
    driver = dialect.dbapi
    assert driver is not None
    return driver.Error


def prepare(table: Table, statement: Insert, columns: tuple[str, ...], dialect: Dialect) -> Prepared:
    """Compile an INSERT into `table` of exactly `columns`, each with the conversion that its type asks for."""
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    order = getattr(compiled, "positiontup", None)
    processors = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in columns}
    return Prepared(
        sql=compiled.string,
        order=None if order is None else tuple(order),
        convert={name: processor for name, processor in processors.items() if processor is not None},
    )
