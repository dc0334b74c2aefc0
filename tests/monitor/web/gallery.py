"""One daemon with a model for every state of a page, and names as bad as names get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.codec import encode_baseline
from detectors.decision import (
    Calibration,
    CalibrationSource,
    ColumnLearning,
    EventIndex,
    Thresholds,
    unlearned,
)
from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import ColumnRole, ColumnType
from monitor.ingest.accept import Accepted
from monitor.ingest.batch import Batch, Tensor, text_tensor
from monitor.instants import to_ns
from monitor.operations import acknowledge, add_silence
from storage import baselines, models, performances
from storage.engine import Connection
from storage.performances import PerformanceRow
from tests.monitor import frames
from tests.monitor.world import START, World

Values = Mapping[str, npt.NDArray[Any]]
MINUTE: Final = timedelta(minutes=1)
STEP: Final = 5

CONFIG: Final = """
[defaults]
pane = "1m"
windows = ["15m", "1h"]
evidence_block = "1m"
lateness = "0s"
false_pages_per_year = 1.0
page_max_age = "off"

[models.judged]
segments = ["region"]

[models.labelled]
labels_mature_after = "2h"
performance = { price = { mean_absolute_error = 9.0 }, "<script>alert(1)</script>" = { accuracy = 0.9 } }

[alerts]
group_wait = "0s"
group_interval = "1m"

[receivers.hook]
type = "webhook"
url = "https://hook.example/x"
"""

NASTY_MODEL: Final = '<b>"mod\'el"</b> &amp; 100%?#'
SCRIPT: Final = "<script>alert(1)</script>"
NASTY_COLUMNS: Final = (
    SCRIPT,
    "\"quoted\" 'twice' & <img src=x onerror=alert(1)>",
    "a/columns/b",
    "..",
    "x" * 200,
    "family 👩‍👩‍👧 of 🚀",
    "עברית \u202eمرحبا",
    "50%41 of?q=1#f&g+h;i",
    "$(reboot)`reboot`'\"; reboot",
)
WIDE_COLUMNS: Final = tuple(f"transaction_feature_{i:02}" for i in range(30))
DRIFTING, STABLE, WAITING, SILENT, UNSEEN, ODD, WIDE, JUDGED, LABELLED = (
    "credit",
    "calm",
    "waiting",
    "silent",
    "unseen",
    NASTY_MODEL,
    "wide",
    "judged",
    "labelled",
)
REGIONS: Final = ("eu", "us", '<i>x</i> & "y"/..?#')


def column(name: str, kind: ColumnType, dtype: str, values: npt.NDArray[Any]) -> ColumnData:
    """A feature."""
    return ColumnData(name=name, role=ColumnRole.FEATURE, type=kind, dtype=dtype, values=values)


def odd_rows(seed: int, n: int) -> dict[str, npt.NDArray[Any]]:
    """Every type of column, and numbers under the names nobody should choose."""
    rng = np.random.default_rng(seed)
    named = {name: rng.normal(0, 1, n).astype(np.float32) for name in NASTY_COLUMNS}
    colours = np.array([SCRIPT, "rød & grøn", "7", "🟦" * 30], dtype=object)
    return named | {
        "flag": rng.random(n) < 0.3,
        "stars": rng.integers(1, 6, n),
        "note": np.array(["n" * length for length in rng.integers(1, 60, n)], dtype=object),
        "colour": rng.choice(colours, n, p=[0.4, 0.3, 0.2, 0.1]),
    }


def odd_baseline() -> Baseline:
    """A baseline of `odd_rows`."""
    rows = odd_rows(1, 2000)
    data = [column(name, ColumnType.NUMERIC, "float32", rows[name]) for name in NASTY_COLUMNS]
    data += [
        column("flag", ColumnType.BOOLEAN, "bool", rows["flag"]),
        column("stars", ColumnType.NUMERIC, "int64", rows["stars"]),
        column("note", ColumnType.TEXT, "int64", rows["note"]),
        column("colour", ColumnType.CATEGORICAL, "string", rows["colour"]),
    ]
    return _baseline(data)


def wide_rows(seed: int, n: int, *, shift: float = 0.0) -> dict[str, npt.NDArray[Any]]:
    """Thirty numbers, all moved by `shift`."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(1000 + shift, 250, n).astype(np.float32) for name in WIDE_COLUMNS}


def wide_baseline() -> Baseline:
    """A baseline of `wide_rows`."""
    rows = wide_rows(1, 3000)
    return _baseline([column(name, ColumnType.NUMERIC, "float32", rows[name]) for name in WIDE_COLUMNS])


def judged_rows(seed: int, n: int) -> dict[str, npt.NDArray[Any]]:
    """A column for each state of learning. `age` never was like training, and `amount` moves in the first region."""
    rng = np.random.default_rng(seed)
    rows = {
        name: rng.normal(0, 1, n).astype(np.float32) for name in ("amount", "age", "rain", "stock", "score")
    }
    if seed > 1:
        rows["age"] += np.float32(4.0)
        rows["amount"][:: len(REGIONS)] += np.float32(4.0)
    return rows


def judged_baseline() -> Baseline:
    """A baseline of `judged_rows`."""
    rows = judged_rows(1, 3000)
    return _baseline([column(name, ColumnType.NUMERIC, "float32", values) for name, values in rows.items()])


def judged_calibration() -> Calibration:
    """One column in each state, in the order of `judged_rows`: what two weeks of traffic might have taught."""
    learned, mismatch, variable, learning, unlearned_ = (
        ColumnLearning.LEARNED,
        ColumnLearning.MISMATCH,
        ColumnLearning.TOO_VARIABLE,
        ColumnLearning.LEARNING,
        ColumnLearning.UNLEARNED,
    )
    start = unlearned(EventIndex.of(judged_baseline()), (900, 3600), 60)
    theta = np.array([[0.4, 0.6, np.inf, 0.6, 0.6], [0.2, 0.35, np.inf, 0.35, 0.35]])
    nan, inf = np.nan, np.inf
    return replace(
        start,
        states=(learned, mismatch, variable, learning, unlearned_),
        source=CalibrationSource.TRAFFIC,
        span=(int(START.timestamp()) - 16 * 86_400, int(START.timestamp()) - 2 * 86_400),
        thresholds=Thresholds(theta=theta, psi=theta, rates=np.stack([theta] * 3)),
        block_seconds=np.array([60, 60, 3600, 60, 60]),
        tau_seconds=np.array([5_400.0, nan, 190_000.0, nan, nan]),
        delay_seconds=np.array([2_700.0, nan, inf, nan, nan]),
        detectable=np.array([0.23, nan, inf, nan, nan]),
    )


def labelled_baseline() -> Baseline:
    """One feature and four predictions: a category, a number, a whole number, and one that nobody labels."""
    rng = np.random.default_rng(6)
    data = [column("age", ColumnType.NUMERIC, "float32", rng.normal(0, 1, 500).astype(np.float32))]
    for name, kind, dtype in (
        (SCRIPT, ColumnType.CATEGORICAL, "int64"),
        ("price", ColumnType.NUMERIC, "float32"),
        ("stars", ColumnType.NUMERIC, "int64"),
        ("unlabelled", ColumnType.NUMERIC, "float32"),
    ):
        values = rng.integers(0, 5, 500).astype(dtype)
        data.append(ColumnData(name=name, role=ColumnRole.PREDICTION, type=kind, dtype=dtype, values=values))
    return _baseline(data)


def labelled_hours(version_id: int) -> list[PerformanceRow]:
    """Eight days of labelled predictions: the category gets worse on the last, and for half a day nothing was labelled."""
    rng = np.random.default_rng(7)
    found = []
    for hour in range(1, 8 * 24 + 1):
        rows = 200 + int(40 * np.sin(hour / 24 * 2 * np.pi))
        gap, noon = 60 <= hour < 72, hour % 24 < 12
        labelled = 0 if gap else int(rows * (0.92 if noon else 0.8))
        correct = int(rng.binomial(labelled, 0.84 if hour <= 20 else 0.94))
        error = labelled * (4.0 + 3.0 * np.sin(hour / 24 * 2 * np.pi) + float(rng.normal(0, 0.3)))
        one = PerformanceRow(
            version_id=version_id,
            segment="",
            column=SCRIPT,
            start=int(START.timestamp()) - 3600 * (hour + 1),
            rows=rows,
            identified=rows,
            labelled=labelled,
            correct=correct,
            error=0.0,
            absolute_error=0.0,
            squared_error=0.0,
            confident=labelled,
            confidence=0.9 * labelled,
        )
        number = replace(
            one,
            column="price",
            correct=0,
            error=-0.3 * labelled,
            absolute_error=error,
            squared_error=1.5 * error,
            confident=0,
        )
        found += [
            one,
            number,
            replace(number, column="stars", correct=labelled // 2, absolute_error=labelled / 2),
            replace(one, column="unlabelled", labelled=0, correct=0, identified=rows // 2, confident=0),
        ]
    return found


def fill(directory: Path) -> World:
    """The gallery: a drifting model, a stable one, one without baseline, one that fell silent, one never seen, bad names,
    thirty columns that all drift after an hour of peace, one with segments, a column in each state of learning, and
    six weeks of traffic behind it, and one with a week of labels. One alert is acknowledged, one silenced."""
    world = World(directory, config=CONFIG)
    plain = frames.baseline()
    for model in (DRIFTING, STABLE, SILENT, UNSEEN):
        register(world, model, plain)
    register(world, DRIFTING, plain, version="2 rc/1")
    register(world, WAITING, None)
    register(world, ODD, odd_baseline())
    register(world, WIDE, wide_baseline())
    register(world, JUDGED, judged_baseline())
    register(world, LABELLED, labelled_baseline())
    _remember(world)
    _score(world)
    for minute in range(0, 95, STEP):
        at, spread = world.clock.now(), STEP * MINUTE
        world.clock.advance(spread)
        moved = minute >= 60
        send(world, WIDE, at, wide_rows(100 + minute, 300, shift=400.0 if moved else 0.0), spread=spread)
        if minute >= 30:
            send(world, DRIFTING, at, frames.rows(minute, 300, shift=25.0 if moved else 0.0), spread=spread)
        if minute >= 65:
            send(world, STABLE, at, frames.rows(500 + minute, 300), spread=spread)
            send(world, ODD, at, odd_rows(minute, 300), spread=spread)
            regions: list[str | None] = [REGIONS[row % len(REGIONS)] for row in range(300)]
            send(world, JUDGED, at, judged_rows(minute, 300), spread=spread, regions=regions)
            send(world, WAITING, at, frames.rows(minute, 20), spread=spread)
        if minute < 75:
            send(world, SILENT, at, frames.rows(900 + minute, 300), spread=spread)
        world.look()
    _answer(world)
    return world


def register(world: World, model: str, baseline: Baseline | None, version: str = "1") -> None:
    """Make a version known, with its baseline if there is one."""

    def write(conn: Connection) -> None:
        now = world.clock.now()
        row = models.ensure_version(conn, models.ensure_model(conn, model, now=now).id, version, now=now)
        if baseline is not None:
            found = baselines.add(
                conn,
                version_id=row.id,
                blob=encode_baseline(baseline),
                fingerprint=baseline.fingerprint,
                source=baseline.source,
                rows=baseline.profile.rows,
                pane_seconds=baseline.pane_seconds,
                now=now,
            )
            models.set_baseline(conn, row.id, found)

    world.service.database.write(write).result()
    world.service.catalog.reload()


def send(
    world: World,
    model: str,
    at: datetime,
    values: Values,
    *,
    spread: timedelta,
    regions: list[str | None] | None = None,
) -> None:
    """Commit one batch of version 1 whose rows happened from `at` on, evenly over `spread`."""
    count = len(next(iter(values.values())))
    offsets = np.linspace(0, spread.total_seconds() * 1e9, count, endpoint=False).astype(np.int64)
    key = f"{at.isoformat()}-{count}"
    batch = Batch(
        id=key,
        model_version="1",
        parameters={},
        rows=count,
        times_ns=to_ns(at) + offsets,
        tensors=tuple(_tensor(name, array) for name, array in values.items()),
        tags={} if regions is None else {"region": text_tensor("region", regions)},
        row_ids=None,
        body_sha256=key,
    )
    handle = world.service.catalog.model(model)
    assert handle is not None
    accepted = Accepted(batch=batch, accepted=count, rejected=0)
    done = world.service.ingestion.submit(handle, handle.versions["1"], accepted).result()
    assert done.status == "stored"


def _remember(world: World) -> None:
    """What a daemon would know of JUDGED after some weeks: its calibration, and its rows by the hour."""
    handle = world.service.catalog.model(JUDGED)
    assert handle is not None
    version = handle.versions["1"]
    baseline_id = version.baseline_id
    assert baseline_id is not None
    now, calibration = int(START.timestamp()), judged_calibration()
    served = [
        models.Serving(
            model_id=handle.model_id,
            version_id=version.version_id,
            start=now - 3600 * hour,
            rows=24_000 + round(9_000 * np.sin(hour / 24 * 2 * np.pi)),
        )
        for hour in range(1, 6 * 168)
    ]

    def write(conn: Connection) -> None:
        models.record_serving(conn, served)
        baselines.add_calibration(
            conn,
            baselines.NewCalibration(
                version_id=version.version_id,
                baseline_id=baseline_id,
                segment="",
                valid_from=-(2**62),
                source=calibration.source.value,
                span_start=calibration.span[0],
                span_end=calibration.span[1],
                blob=calibration.encode(),
            ),
        )

    world.service.database.write(write).result()


def _score(world: World) -> None:
    """What a daemon would know of LABELLED after eight days."""
    handle = world.service.catalog.model(LABELLED)
    assert handle is not None
    rows = labelled_hours(handle.versions["1"].version_id)
    world.service.database.write(lambda conn: performances.add(conn, rows)).result()


def _baseline(data: Sequence[ColumnData]) -> Baseline:
    return build_baseline(data, pane_seconds=60, tensors=(), confidence=None, source="training")


def _tensor(name: str, array: npt.NDArray[Any]) -> Tensor:
    if array.dtype == object:
        return text_tensor(name, array.tolist())
    datatype = {"float32": "FP32", "int64": "INT64", "bool": "BOOL"}[array.dtype.name]
    return Tensor(name=name, datatype=datatype, shape=(len(array),), data=array.tobytes())


def _answer(world: World) -> None:
    first, second = [alert for alert in world.alerts() if alert.model == WIDE][:2]
    acknowledge(world.service, first.id, author="<i>ada</i>", comment="on it & looking", actor="test")
    add_silence(
        world.service,
        [f'column="{second.column}"', f'model="{WIDE}"'],
        ends_at=world.clock.now() + timedelta(hours=4),
        author="grace",
        comment="known",
        actor="test",
    )


@dataclass(slots=True)
class Page(HTMLParser):
    """What a browser without script makes of a page: tags, text, links."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    links: list[str] = field(default_factory=list)
    chunks: list[tuple[str, str]] = field(default_factory=list)
    _within: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
        self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._within = self._within[: max(i for i, t in enumerate(self._within) if t == tag)]

    def handle_data(self, data: str) -> None:
        inside = self._within[-1] if self._within else ""
        self.chunks.append((inside, data))
        if inside not in ("style", "script"):
            self.text += data
