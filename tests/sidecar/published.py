"""Values that a model of any signature takes, and whether two results are the same."""

from typing import Any

import numpy as np

DTYPES = {
    "tensor(bool)": np.bool_, "tensor(float16)": np.float16, "tensor(float)": np.float32,
    "tensor(double)": np.float64, "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32,
    "tensor(int64)": np.int64, "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64,
}  # fmt: skip
TEXTS = ["Bern", "Genf", "Zürich", "free", ""]


def values(kind: str, shape: list[Any], rows: int, rng: np.random.Generator) -> Any:
    """Values that an input of this type takes, `rows` where its first dimension is open, 2 where another is."""
    sizes = [
        size if isinstance(size, int) and size > 0 else (rows if place == 0 else 2)
        for place, size in enumerate(shape)
    ]
    if kind == "tensor(string)":
        return rng.choice(TEXTS, sizes).astype(object)
    dtype = DTYPES[kind]
    if np.issubdtype(dtype, np.floating):
        return np.asarray(rng.normal(size=sizes), dtype)
    return np.asarray(rng.integers(0, 2, sizes), dtype)


def same_bits(one: Any, other: Any) -> bool:
    """Equal in type, dtype, shape and every bit; NaN equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        return bool(
            one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_bits, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return np.float64(one).tobytes() == np.float64(other).tobytes()
    return bool(one == other)
