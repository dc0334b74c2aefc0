"""Writes the models that scikit-learn and skl2onnx make, into the folder named by the argument.

A process of its own, since both live beside the packages of the tests and not among them: hence the late imports.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = 6
PLAIN: dict[str, Any] = {"zipmap": False}


def main(folder: Path) -> None:
    """Seven models of 200 rows of noise each."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(11)
    x = rng.normal(size=(200, FEATURES)).astype(np.float32)
    two = (x[:, 0] > 0).astype(np.int64)
    three = np.digitize(x[:, 1], [-0.5, 0.5])
    named = np.array(["low", "middle", "high"])[three]
    models = {
        "logistic_zipmap": (LogisticRegression().fit(x, two), {}),
        "logistic_plain": (LogisticRegression().fit(x, two), PLAIN),
        "forest_multiclass": (RandomForestClassifier(8, random_state=0).fit(x, three), PLAIN),
        "forest_text_labels": (RandomForestClassifier(8, random_state=0).fit(x, named), {}),
        "forest_regression": (RandomForestRegressor(8, random_state=0).fit(x, x[:, 2] * 3), None),
        "multi_label": (
            MLPClassifier((4,), max_iter=20, random_state=0).fit(x, np.stack([two, three > 1], axis=1)),
            PLAIN,
        ),
    }
    for name, (estimator, options) in models.items():
        chosen = None if options is None else {id(estimator): options}
        made = to_onnx(estimator, initial_types=[("X", FloatTensorType([None, FEATURES]))], options=chosen)
        (folder / f"{name}.onnx").write_bytes(made.SerializeToString())
    (folder / "text_columns.onnx").write_bytes(text_columns(rng).SerializeToString())


def text_columns(rng: np.random.Generator) -> Any:
    """One input per column: two of text, one of int64, one of float."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    city, plan = rng.choice(["Bern", "Genf", "Zürich"], 200), rng.choice(["free", "paid"], 200)
    visits, income = rng.integers(0, 90, 200), rng.normal(size=200).astype(np.float32)
    table = np.array(list(zip(city, plan, visits, income, strict=True)), dtype=object)
    pipeline = make_pipeline(
        ColumnTransformer(
            [("text", OneHotEncoder(handle_unknown="ignore"), [0, 1]), ("number", StandardScaler(), [2, 3])]
        ),
        LogisticRegression(),
    ).fit(table, (income > 0) & (city != "Bern"))
    return to_onnx(
        pipeline,
        initial_types=[
            ("city", StringTensorType([None, 1])),
            ("plan", StringTensorType([None, 1])),
            ("visits", Int64TensorType([None, 1])),
            ("income", FloatTensorType([None, 1])),
        ],
        options={"zipmap": False},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
