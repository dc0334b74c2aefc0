"""The server that one writes in an afternoon: FastAPI, a pydantic model of each row, a table with a column per feature.

It is no straw man: uvloop and httptools, typed pydantic models, SQLAlchemy Core with `executemany`, and SQLite in WAL
mode that is as durable at COMMIT as the daemon's. What it leaves out would cost it more: retries, bad rows, drift.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model
from sqlalchemy import Column, DateTime, Engine, Float, Integer, MetaData, Table, Text, create_engine, event

COLUMNS = tuple(f"f{i:02}" for i in range(30))

Features: type[BaseModel] = create_model("Features", **dict.fromkeys(COLUMNS, (float | None, ...)))  # type: ignore[call-overload]  # fields by name


class Row(BaseModel):
    """One prediction."""

    features: Features  # type: ignore[valid-type]  # made above


class Batch(BaseModel):
    """What is posted: the daemon's own row JSON."""

    model_version: str
    rows: list[Row]


metadata = MetaData()
predictions = Table(
    "predictions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("ts", DateTime, nullable=False, index=True),
    *(Column(name, Float) for name in COLUMNS),
)


def application(engine: Engine) -> FastAPI:
    """The server over one database."""
    app = FastAPI()

    @app.post("/v1/models/{model}/predictions")
    def post(model: str, batch: Batch) -> dict[str, int]:
        shared = {"model": model, "model_version": batch.model_version, "ts": datetime.now(UTC)}
        rows = [shared | row.features.model_dump() for row in batch.rows]  # type: ignore[attr-defined]  # a model
        with engine.begin() as conn:
            conn.execute(predictions.insert(), rows)
        return {"accepted": len(rows)}

    return app


def durable(path: Path) -> Engine:
    """SQLite as the daemon has it: WAL, and on disk at COMMIT."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def pragmas(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    metadata.create_all(engine)
    return engine


if __name__ == "__main__":
    uvicorn.run(
        application(durable(Path(sys.argv[2]))), port=int(sys.argv[1]), log_level="warning", access_log=False
    )
