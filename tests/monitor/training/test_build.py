"""Training files to baselines: what a column is taken for, what is refused, and that counts are the file's own."""

import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zstandard

from detectors.profile import CategoricalColumn, NumericColumn
from detectors.types import ColumnRole, ColumnType
from monitor.training import BuildResult, TrainingError, TrainingOptions, build

ROWS = 400


def write(path: Path, columns: dict[str, Sequence[object]]) -> Path:
    names = list(columns)
    lines = [",".join(names), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cycle(values: Iterable[object], rows: int = ROWS) -> list[object]:
    values = list(values)
    return [values[i % len(values)] for i in range(rows)]


def made(path: Path, **options: object) -> BuildResult:
    return build(TrainingOptions(model="m", version="1", files=(path,), **options))  # type: ignore[arg-type]  # any option


def column(result: BuildResult, name: str) -> NumericColumn | CategoricalColumn:
    return result.baseline.columns[result.baseline.layout.positions[name]]


def slots(result: BuildResult, name: str) -> list[int]:
    layout = result.baseline.layout
    found: list[int] = result.baseline.profile.counts[layout.slices[layout.positions[name]]].tolist()
    return found


@pytest.mark.parametrize(
    ("values", "type_", "dtype"),
    [
        (["1.5", "2", "-3e2", "inf"], ColumnType.NUMERIC, "float64"),
        (["1", "2", "-3"], ColumnType.NUMERIC, "int64"),
        (["1", "2", "", "NA", "null", "NaN"], ColumnType.NUMERIC, "int64"),
        (["true", "False", "TRUE", ""], ColumnType.BOOLEAN, "bool"),
        (["0", "1"], ColumnType.NUMERIC, "int64"),
        (["US", "NA", "DE", ""], ColumnType.CATEGORICAL, "string"),
        (["00501", "10001", "90210"], ColumnType.CATEGORICAL, "string"),
        (["1_000", "2_000"], ColumnType.CATEGORICAL, "string"),
        (["١", "٢"], ColumnType.CATEGORICAL, "string"),
        ([str(2**60 + i) for i in range(40)], ColumnType.CATEGORICAL, "string"),
        (["a", "123", "True", "1.0"], ColumnType.CATEGORICAL, "string"),
        ([f"ticket {i}" for i in range(300)], ColumnType.TEXT, "int64"),
        (["x" * 150, "y" * 170], ColumnType.TEXT, "int64"),
        ([""], ColumnType.NUMERIC, "float64"),
    ],
)
def test_a_column_is_what_all_of_it_looks_like(
    tmp_path: Path, values: list[str], type_: ColumnType, dtype: str
) -> None:
    result = made(write(tmp_path / "t.csv", {"x": cycle(values), "other": cycle(range(7))}))
    found = column(result, "x")
    assert (found.type, found.dtype) == (type_, dtype)


def test_what_the_file_says_is_what_is_counted(tmp_path: Path) -> None:
    country, age = cycle(["US", "NA", "", "DE"]), cycle(["1.5", "", "NA", "7", "7"])
    result = made(write(tmp_path / "t.csv", {"country": country, "age": age}))
    found = column(result, "country")
    assert isinstance(found, CategoricalColumn)
    assert dict(zip(found.categories, slots(result, "country"), strict=False)) == {
        "US": 100,
        "NA": 100,
        "DE": 100,
    }
    assert slots(result, "country")[-1] == 100  # the empty ones are missing; Namibia is not
    numbers = column(result, "age")
    assert isinstance(numbers, NumericColumn)
    assert numbers.cuts.tolist() == [1.5, 7.0]
    assert slots(result, "age") == [
        0,
        80,
        0,
        160,
        0,
        160,
        0,
    ]  # (-inf,1.5) {1.5} (…) {7} (7,inf), missing, non-finite


def test_decimal_text_becomes_the_number_every_client_sends(tmp_path: Path) -> None:
    """Python's float() is the oracle; pandas' fast parser differs from it in the last bit now and then."""
    rng = np.random.default_rng(3)
    texts = [repr(float(x)) for x in rng.lognormal(0, 30, 900)]
    found = column(made(write(tmp_path / "t.csv", {"x": texts})), "x")
    assert isinstance(found, NumericColumn)
    assert found.cuts.tolist() == sorted({float(text) for text in texts})


def test_numbers_declared_categories_are_named_as_clients_name_them(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", {"code": cycle(["1.0", "2", "+2", "NA", "0.5"]), "n": cycle(range(9))})
    found = column(made(path, types={"code": ColumnType.CATEGORICAL}), "code")
    assert isinstance(found, CategoricalColumn)
    assert (found.categories, found.dtype) == (("2", "0.5", "1"), "float64")


def test_types_and_dtypes_can_be_declared(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        {
            "name": cycle(["ab", "c", ""]),
            "flag": cycle(["0", "1"]),
            "x": cycle(["0.1", "0.2"]),
            "n": cycle("12"),
        },
    )
    result = made(
        path,
        types={"name": ColumnType.TEXT, "flag": ColumnType.BOOLEAN},
        dtype="float32",
        dtypes={"n": "int16"},
    )
    assert {c.name: c.dtype for c in result.columns} == {
        "name": "int64",
        "flag": "bool",
        "x": "float32",
        "n": "int16",
    }
    numbers = column(result, "x")
    assert isinstance(numbers, NumericColumn)
    assert numbers.cuts.tolist() == [float(np.float32(0.1)), float(np.float32(0.2))]
    lengths = column(result, "name")
    assert isinstance(lengths, NumericColumn)
    assert lengths.cuts.tolist() == [1.0, 2.0]


def test_prediction_and_confidence_get_their_own_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv", {"x": cycle(range(8)), "label": cycle("012"), "score": cycle(["0.5", "0.9"])}
    )
    result = made(path, prediction="label", confidence="score")
    assert [(c.name, c.role, c.type, c.source) for c in result.columns] == [
        ("x", ColumnRole.FEATURE, ColumnType.NUMERIC, "x"),
        ("prediction", ColumnRole.PREDICTION, ColumnType.CATEGORICAL, "label"),
        ("confidence", ColumnRole.CONFIDENCE, ColumnType.NUMERIC, "score"),
    ]
    baseline = result.baseline
    assert baseline.confidence is not None
    assert baseline.confidence.kind == "given"
    assert [(t.name, t.datatype, t.kind, t.columns) for t in baseline.tensors] == [
        ("label", "INT64", "output", ("prediction",)),
        ("score", "FP64", "output", ("confidence",)),
    ]


def test_tensors_can_be_declared(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", {"a": cycle(range(8)), "b": cycle(["0.5", "1"]), "c": cycle("uv")})
    result = made(path, tensors={"features": ("b", "", "a"), "words": ("c",)}, dtype="float32")
    assert [(t.name, t.datatype, t.columns) for t in result.baseline.tensors] == [
        ("features", "FP32", ("b", "", "a")),
        ("words", "BYTES", ("c",)),
    ]


def test_a_file_in_many_chunks_and_files_gives_the_same_baseline(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=5_000).round(4),
            "word": rng.choice([f"w{i}" for i in range(60)], 5_000),
            "text": [f"{'z' * int(k)}{i}" for i, k in enumerate(rng.integers(0, 30, 5_000))],
            "flag": rng.choice([True, False], 5_000),
        }
    )
    frame.loc[::11, "x"] = np.nan
    whole = tmp_path / "t.csv"
    frame.to_csv(whole, index=False)
    parts = (tmp_path / "a.csv", tmp_path / "b.csv")
    frame[:1_234].to_csv(parts[0], index=False)
    frame[1_234:][["flag", "text", "x", "word"]].to_csv(parts[1], index=False)
    one = made(whole).baseline
    seen: list[int] = []
    many = build(
        TrainingOptions(model="m", files=parts, cells_per_chunk=1, spill_directory=tmp_path),
        progress=lambda _path, rows: seen.append(rows),
    ).baseline
    assert seen == [1_000, 1_234, 2_234, 3_234, 4_234, 5_000]
    assert np.array_equal(one.profile.counts, many.profile.counts)
    assert [type(c) for c in one.columns] == [type(c) for c in many.columns]
    lengths = one.columns[one.layout.positions["text"]]
    assert isinstance(lengths, NumericColumn)
    assert lengths.cuts.tolist() == sorted({float(len(text)) for text in frame["text"]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "t.csv"]  # no spill is left


def test_compressed_files_and_parquet_read_alike(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "x": cycle([1.5, 2.25, None, 4.0]),
            "n": pd.Series(cycle([1, None, 3]), dtype="Int64"),
            "word": cycle(["a", "b", None]),
            "flag": pd.Series(cycle([True, None, False]), dtype="boolean"),
            "id": pd.Series(cycle([2**60, 2**60 + 1]), dtype="int64"),
        }
    )
    text = frame.to_csv(index=False).encode()
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "t.csv.zst").write_bytes(zstandard.compress(text))
    frame.to_parquet(tmp_path / "t.parquet")
    results = [made(tmp_path / f"t.{suffix}") for suffix in ("csv", "csv.gz", "csv.zst", "parquet")]
    counts = [result.baseline.profile.counts.tolist() for result in results]
    assert counts[0] == counts[1] == counts[2] == counts[3]
    kinds = [[(c.name, c.type) for c in result.columns] for result in results]
    assert kinds[0] == kinds[3]
    ids = column(results[3], "id")
    assert isinstance(ids, CategoricalColumn)
    assert set(ids.categories) == {str(2**60), str(2**60 + 1)}  # one apart, and not one float


def test_parquet_keeps_narrow_dtypes_and_refuses_what_is_no_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"x": np.arange(ROWS, dtype=np.float32) % 9, "b": np.arange(ROWS) % 2 == 0})
    frame.to_parquet(tmp_path / "t.parquet")
    assert {c.name: c.dtype for c in made(tmp_path / "t.parquet").columns} == {"x": "float32", "b": "bool"}
    frame["when"] = pd.Timestamp("2026-01-01", tz="UTC")
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TrainingError, match=r"'when' is timestamp.*--ignore when"):
        made(tmp_path / "t.parquet")
    assert [c.name for c in made(tmp_path / "t.parquet", ignore=("when",)).columns] == ["x", "b"]


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        ("", {}, "the file is empty"),
        ("a,a\n1,2\n", {}, "'a' stands there twice"),
        ("a,\n1,2\n", {}, "column 2 has no name"),
        ("a\n1\n", {}, "1 rows; a baseline needs at least 100"),
        ("a,b\n1,2\n3,4,5\n", {}, r"t\.csv, after row 0: .*line 3, saw 3"),
        ("a,b\n" + "1,2,3\n" * 200, {}, "more values than its header has names"),
        ("a\n" + "1\n" * 5 + "1e39\n" + "1\n" * 200, {"dtype": "float32"}, r"row 6: column 'a': 1e\+39 is no float32"),
        ("a\n" + "1\n" * 150 + "1.5\n", {"dtypes": {"a": "int64"}}, r"row 151: column 'a': 1.5 is no int64"),
        ("a\n" + "1\n" * 150 + "300\n", {"dtypes": {"a": "uint8"}}, r"row 151: column 'a': 300 is no uint8"),
        ("a,c\n" + "1,0.5\n" * 150 + "1,1.5\n", {"confidence": "c"}, r"row 151: .*between 0 and 1, not at 1.5"),
        ("a\n" + "1\n" * 150 + "x\n", {"types": {"a": ColumnType.NUMERIC}}, r"row 151: column 'a': 'x' is not a number"),
        ("a\n" + "1\n" * 150 + "2\n", {"types": {"a": ColumnType.BOOLEAN}}, r"row 151: .*'2' is not true or false"),
        ("age\n" + "1\n" * 150, {"prediction": "agee"}, r"no column 'agee' \(did you mean age\?\)"),
        ("age\n" + "1\n" * 150, {"ignore": ("ag",)}, r"no column 'ag' \(did you mean age\?\)"),
        ("age\n" + "1\n" * 150, {"ignore": ("age",)}, "no column is left"),
        ("prediction,y\n" + "1,2\n" * 150, {"prediction": "y"}, "a feature is called 'prediction'"),
        ("a,b\n" + "1,x\n" * 150, {"tensors": {"t": ("a", "b")}}, "text and numbers cannot share a tensor"),
    ],
)  # fmt: skip
def test_what_makes_no_baseline_is_refused_with_its_place(
    tmp_path: Path, content: str, options: dict[str, object], complaint: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=complaint):
        made(path, **options)


def test_a_number_that_is_none_far_into_a_file_is_named(tmp_path: Path) -> None:
    values: list[object] = [i / 7 for i in range(3_000)]
    values[2_500] = "ERR"
    path = write(tmp_path / "t.csv", {"x": values})
    with pytest.raises(
        TrainingError, match=r"t\.csv, row 2501: column 'x': 'ERR' is no number.*--missing ERR"
    ):
        made(path, cells_per_chunk=1)
    missing = made(path, missing=("ERR",), cells_per_chunk=1)
    assert [c.missing for c in missing.columns] == [1]


def test_files_that_are_damaged_or_do_not_match_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", {"x": cycle("12"), "y": cycle("12")})
    second = write(tmp_path / "b.csv", {"x": cycle("12")})
    with pytest.raises(TrainingError, match=r"b\.csv: lacks the column 'y'"):
        build(TrainingOptions(model="m", files=(first, second)))
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"x\n" + b"1\n" * 100_000)[:-100])
    (tmp_path / "d.csv.zst").write_bytes(b"x\n1\n")
    (tmp_path / "e.csv").write_bytes("x\nmünchen\n".encode("latin-1"))
    (tmp_path / "f.parquet").write_bytes(b"x\n1\n")
    for name in ("c.csv.gz", "d.csv.zst", "e.csv", "f.parquet", "nowhere.csv"):
        with pytest.raises(TrainingError, match=name.replace(".", r"\.")):
            made(tmp_path / name)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(TrainingError, match=r"install driftd\[parquet\]"):
        made(tmp_path / "t.parquet")


def test_what_a_person_should_know_is_said(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        {
            "row": range(ROWS),
            "one": ["5"] * ROWS,
            "none": [""] * ROWS,
            "many": cycle([f"k{i}" for i in range(90)]),
            "words": [f"w{i}" for i in range(ROWS)],
        },
    )
    found = "\n".join(made(path).warnings)
    for remark in (
        "400 rows are few",
        "'row' only ever increases",
        "'one' has the one value 5",
        "'none' has no value at all",
        "'many' has 90 categories in 400 rows",
        "'words' is text",
    ):
        assert remark in found
    assert len(found.splitlines()) == 6


def test_quoted_fields_and_other_delimiters(tmp_path: Path) -> None:
    text = io.StringIO()
    text.write("word;x\n")
    text.write('"a;b ""c""\nd";1\n' * 150)
    (tmp_path / "t.csv").write_text(text.getvalue(), encoding="utf-8")
    found = column(made(tmp_path / "t.csv", delimiter=";"), "word")
    assert isinstance(found, CategoricalColumn)
    assert found.categories == ('a;b "c"\nd',)
