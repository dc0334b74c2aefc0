"""The demo's data and model are what PROVENANCE.md says they are, and show what the demo is there to show."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import ks_2samp, rankdata

import monitor.demo

ASSETS = Path(str(monitor.demo.__file__)).parent / "assets"
REPOSITORY = Path(__file__).resolve().parents[2]
TABLES = ("training.csv.gz", "serving.csv.gz")
MARCH = "2013-03-01T05:00:00Z"  # midnight in New York
SUMMER_TIME = "2013-03-10T07:00:00Z"  # 2 o'clock in New York; one more hour from then to November


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the model says of some rows: labels int64 [N], probabilities float32 [N, 2]."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


class Model:
    """The shipped artefact behind onnxruntime, telemetry off before it is imported."""

    def __init__(self) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        onnxruntime = pytest.importorskip("onnxruntime")
        artifact = str(ASSETS / "late_arrival.onnx")
        self.session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
        self.said: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.columns: list[str] = json.loads(self.said["driftd.columns.features"])

    def run(self, features: npt.NDArray[np.float32]) -> Served:
        labels, probabilities = self.session.run(["label", "probabilities"], {"features": features})
        return Served(labels=labels, probabilities=probabilities)

    def serve(self, rows: pd.DataFrame) -> Served:
        return self.run(rows[self.columns].to_numpy(np.float32))


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(ASSETS / name) for name in TABLES}


@pytest.fixture(scope="module")
def training(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return tables["training.csv.gz"]


@pytest.fixture(scope="module")
def serving(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return tables["serving.csv.gz"]


def provenance_rows(first_cell: str) -> list[list[str]]:
    """The rows of PROVENANCE.md's tables whose first cell matches, as lists of cells."""
    text = (ASSETS / "PROVENANCE.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return [row for row in rows if re.fullmatch(first_cell, row[0])]


def auc(late: npt.NDArray[np.int64], score: npt.NDArray[np.float32]) -> float:
    """Mann and Whitney's U over n1·n0: the chance that a late flight scores higher than one on time."""
    ranks, positives = rankdata(score), int(late.sum())
    u = ranks[late == 1].sum() - positives * (positives + 1) / 2
    return float(u / (positives * (len(late) - positives)))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_asset_has_the_size_and_checksum_of_the_provenance() -> None:
    stated = {row[0]: (int(row[1]), row[2]) for row in provenance_rows(r".*\.(gz|onnx)") if len(row[2]) == 64}
    files = [path for path in ASSETS.iterdir() if path.name != "PROVENANCE.md"]
    assert stated == {path.name: (path.stat().st_size, sha256_of(path)) for path in files}
    assert sum(size for size, _ in stated.values()) < 3_000_000


def test_the_model_names_its_version_data_and_the_script_that_made_it(model: Model) -> None:
    assert model.said["version"] == "2013.02"
    assert model.said["dataset_sha256"] == sha256_of(ASSETS / "training.csv.gz")
    script = REPOSITORY / model.said["code"]
    assert model.said["code_sha256"] == sha256_of(script), f"{script.name} changed: run it again"


def test_the_model_takes_named_columns_and_gives_label_and_probabilities(model: Model) -> None:
    (given,) = model.session.get_inputs()
    label, probabilities = model.session.get_outputs()
    assert (given.name, given.type, given.shape[1]) == ("features", "tensor(float)", len(model.columns))
    assert (label.name, label.type, len(label.shape)) == ("label", "tensor(int64)", 1)
    assert (probabilities.name, probabilities.type) == ("probabilities", "tensor(float)")
    assert probabilities.shape[1] == 2


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_the_models_columns_behind_id_time_and_label(
    name: str, model: Model, tables: dict[str, pd.DataFrame]
) -> None:
    assert list(tables[name].columns) == ["id", "time", "late", *model.columns]
    assert set(tables[name]["late"]) == {0, 1}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_rows_of_the_provenance_in_order_of_time(
    name: str, tables: dict[str, pd.DataFrame]
) -> None:
    rows = tables[name]
    ((_, count, first, last),) = (
        row for row in provenance_rows(re.escape(name)) if row[2].startswith("2013")
    )
    assert (len(rows), rows["time"].iloc[0], rows["time"].iloc[-1]) == (int(count), first, last)
    assert rows["time"].str.fullmatch(r"2013-0[1-6]-\d\dT\d\d:\d\d:00Z").all()
    keys = list(zip(rows["time"], rows["id"], strict=True))
    assert keys == sorted(keys)


def test_no_flight_is_in_both_tables_and_each_is_where_its_draw_puts_it(
    training: pd.DataFrame, serving: pd.DataFrame
) -> None:
    def below(ids: pd.Series) -> list[bool]:
        digests = (hashlib.sha256(f"driftd-demo:{i}".encode()).digest() for i in ids)
        return [int.from_bytes(digest[:8]) < 0.6 * 2**64 for digest in digests]

    ids = pd.concat([training["id"], serving["id"]])
    assert ids.is_unique
    assert all(below(training["id"]))
    assert not any(below(serving["id"]))
    assert (training["time"] < MARCH).all()


def test_sixty_percent_of_january_and_february_are_training_and_traffic_has_no_step(
    training: pd.DataFrame, serving: pd.DataFrame
) -> None:
    before = serving["time"] < MARCH
    assert len(training) / (len(training) + before.sum()) == pytest.approx(0.6, abs=0.01)
    assert before.sum() / 59 == pytest.approx((~before).sum() / 92, rel=0.1)


def test_rows_are_as_published(training: pd.DataFrame) -> None:
    """Flight UA 1545 of 1 January and its hour of weather at Newark, as the package's files begin."""
    first = training.iloc[0]
    timetable = (1, "2013-01-01T10:15:00Z", 0, 5, 1400)
    weather = (39.02, 28.04, 64.43, 260, 12.65858, 0, 1011.9, 10)
    assert tuple(first[["id", "time", "late", "hour", "distance"]]) == timetable
    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    assert tuple(first[columns]) == pytest.approx(weather, rel=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_time_is_utc_and_hour_is_new_yorks(name: str, tables: dict[str, pd.DataFrame]) -> None:
    rows = tables[name]
    offset = np.where(rows["time"] < SUMMER_TIME, 5, 4)
    assert ((rows["time"].str[11:13].astype(int) - offset) % 24 == rows["hour"]).all()


def test_readings_that_no_station_reported_stay_missing(serving: pd.DataFrame) -> None:
    share = serving.isna().mean()
    assert 0.10 < share["pressure"] < 0.12
    assert 0 < share["temp"] < 0.01
    assert not share[["id", "time", "late", "hour", "distance", "origin", "carrier"]].any()


def test_a_missing_reading_is_served_as_the_median_of_the_training_rows(
    model: Model, training: pd.DataFrame, serving: pd.DataFrame
) -> None:
    sample = serving[serving[model.columns].isna().any(axis=1)][model.columns].to_numpy(np.float32)
    medians = np.nanmedian(training[model.columns].to_numpy(np.float32), axis=0)
    filled = np.where(np.isnan(sample), medians, sample).astype(np.float32)
    assert len(sample) > 5000
    assert np.array_equal(model.run(sample).probabilities, model.run(filled).probabilities)


@pytest.mark.parametrize("name", TABLES)
def test_the_label_is_the_likelier_class(name: str, model: Model, tables: dict[str, pd.DataFrame]) -> None:
    served = model.serve(tables[name])
    assert np.isfinite(served.probabilities).all()
    assert served.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (served.labels == served.probabilities.argmax(axis=1)).all()


def test_accuracy_and_auc_are_those_of_the_provenance(
    model: Model, training: pd.DataFrame, serving: pd.DataFrame
) -> None:
    """scikit-learn computed the provenance's figures; here they come from ranks."""
    starts = [f"2013-0{month}-01T0{5 if month < 4 else 4}:00:00Z" for month in range(1, 6)]
    month = np.searchsorted(np.array(starts), serving["time"].to_numpy(str), side="right")
    parts = {"training (seen)": training, "held-out January–February": serving[month <= 2]}
    for number, name in enumerate(("January", "February", "March", "April", "May"), start=1):
        parts[f"serving, {name}"] = serving[month == number]
    found = {}
    for name, rows in parts.items():
        served, late = model.serve(rows), rows["late"].to_numpy()
        measured = (late.mean(), served.labels.mean(), (served.labels == late).mean())
        cells = [f"{value:.4f}" for value in (*measured, auc(late, served.probabilities[:, 1]))]
        found[name] = [str(len(rows)), *cells]
    assert found == {row[0]: row[1:] for row in provenance_rows(r"training \(seen\)|held-out .*|serving, .*")}


def test_the_model_is_better_than_chance_in_winter_and_worse_in_april(
    model: Model, serving: pd.DataFrame
) -> None:
    winter = serving[serving["time"] < MARCH]
    april = serving[serving["time"].between("2013-04-01T04:00:00Z", "2013-05-01T03:59:59Z")]
    scores = [auc(rows["late"].to_numpy(), model.serve(rows).probabilities[:, 1]) for rows in (winter, april)]
    assert scores[0] > 0.70
    assert scores[1] < scores[0] - 0.08


def test_spring_moves_the_weather_and_leaves_the_timetable(
    training: pd.DataFrame, serving: pd.DataFrame
) -> None:
    may = serving[serving["time"] >= "2013-05-01T04:00:00Z"]
    winter = serving[serving["time"] < MARCH]

    def distance(column: str, rows: pd.DataFrame) -> float:
        return float(ks_2samp(training[column].dropna(), rows[column].dropna(), method="asymp").statistic)

    assert distance("temp", may) > 0.9
    assert distance("dewp", may) > 0.7
    for column in ("hour", "distance", "origin", "carrier"):
        assert distance(column, may) < 0.04
    for column in training.columns[3:]:
        assert distance(column, winter) < 0.02
