"""What a configuration says of columns that the registered baselines do not have, or cannot bear out."""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from detectors.codec import decode_baseline
from detectors.decision.units import distance_of_shift
from detectors.profile import Baseline
from detectors.types import DetectorError
from monitor.config_schema import Config, ModelSettings
from monitor.ingest.labels import is_measured, is_number, prediction_columns
from storage import baselines, models, statefile
from storage.engine import Connection, Database
from storage.errors import StorageError

_KEYS = ("effect", "weights", "ignore", "performance")
_SHOWN = 12

Registered = Mapping[str, Sequence[tuple[str, Baseline]]]
"""Per model its versions that have a baseline, oldest first."""


def check_columns(config: Config) -> list[str]:
    """Warnings about columns, `key.path: what, and what to do`; none where there is no database yet."""
    state_dir = config.storage.state_dir
    try:
        if not (state_dir / statefile.DATABASE).is_file():
            return []
        with Database.open_readonly(state_dir) as reader, reader.read() as conn:
            known = _registered(conn)
    except (OSError, StorageError, DetectorError) as error:
        return [f"storage.state_dir: the columns' names could not be checked: {error}"]
    return [*_unknown(config, known), *_shifts(config, known), *_limits(config, known)]


def _registered(conn: Connection) -> Registered:
    return {
        model.name: [
            (version.version, decode_baseline(baselines.get_blob(conn, version.baseline_id)))
            for version in models.list_versions(conn, model.id)
            if version.baseline_id is not None
        ]
        for model in models.list_models(conn)
    }


def _place(config: Config, model: str, key: str) -> str:
    """The table that a model's key comes from."""
    own = getattr(config.settings(model), key) != getattr(config.defaults, key)
    return f"models.{model}.{key}" if own else f"defaults.{key}"


def _unknown(config: Config, known: Registered) -> Iterator[str]:
    """Names that no version of any model has to which the key applies."""
    columns: dict[str, dict[str, None]] = {}
    named: dict[str, set[str]] = {}
    for model, versions in known.items():
        for key in _KEYS if versions else ():
            place = _place(config, model, key)
            named[place] = set(getattr(config.settings(model), key))
            columns.setdefault(place, {}).update(
                dict.fromkeys(name for _, baseline in versions for name in _names(baseline, key))
            )
    for place, names in named.items():
        for name in sorted(names - columns[place].keys()):
            close = difflib.get_close_matches(name, columns[place], n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            shown = ", ".join(list(columns[place])[:_SHOWN]) + (", …" if len(columns[place]) > _SHOWN else "")
            what = "prediction column" if place.endswith(".performance") else "column"
            yield f"{place}: there is no {what} {name!r}{meant}; there are {shown or 'none'}"


def _names(baseline: Baseline, key: str) -> list[str]:
    """The columns that a key may name: only what is predicted can turn out to be right."""
    if key == "performance":
        return list(prediction_columns(baseline))
    return [column.name for column in baseline.columns]


def _limits(config: Config, known: Registered) -> Iterator[str]:
    """Limits on what a prediction column has not: no error of a category, and no equality of measured numbers."""
    for model, versions in known.items():
        place = _place(config, model, "performance")
        for name, limits in config.settings(model).performance.items():
            columns = [found[name] for _, b in versions if name in (found := prediction_columns(b))]
            if limits.mean_absolute_error is not None and not all(map(is_number, columns)):
                yield f"{place}.{name}.mean_absolute_error: categories have none; set accuracy"
            if limits.accuracy is not None and any(map(is_measured, columns)):
                yield f"{place}.{name}.accuracy: measured numbers hardly ever equal their label; set mean_absolute_error"


def _shifts(config: Config, known: Registered) -> Iterator[str]:
    """Shifts that no distance can be told from: the evaluation of that version would fail."""
    for model, versions in known.items():
        settings: ModelSettings = config.settings(model)
        for version, baseline in versions:
            for name, own in settings.effect.items():
                position = baseline.layout.positions.get(name)
                if own.shift is None or position is None:
                    continue
                try:
                    distance_of_shift(baseline, position, own.shift)
                except DetectorError as error:
                    place = _place(config, model, "effect")
                    yield f"{place}.{name}.shift: version {version} of {model} could not be judged: {error}"
