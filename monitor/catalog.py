"""Which models, versions and baselines there are, kept in memory and read anew when one is added."""

import threading
from collections.abc import Mapping

from detectors.codec import decode_baseline
from detectors.profile import Baseline
from monitor.ingest.schema import ModelHandle, VersionHandle
from storage import baselines, models
from storage.engine import Connection, Readable
from storage.models import ModelRow


class Catalog:
    """A consistent picture of models and baselines; `reload` replaces it whole, readers never wait."""

    def __init__(self, database: Readable) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._baselines: dict[int, Baseline] = {}
        self._models: Mapping[str, ModelHandle] = {}
        self._generation: tuple[int, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Read models and versions again; baselines are immutable and read once."""
        with self._lock, self._database.read() as conn:
            self._generation = models.generation(conn)
            self._models = {row.name: self._model(conn, row) for row in models.list_models(conn)}

    def refresh(self) -> None:
        """Take in what was registered through another daemon, where the database is shared."""
        with self._database.read() as conn:
            changed = models.generation(conn) != self._generation
        if changed:
            self.reload()

    def models(self) -> tuple[ModelHandle, ...]:
        """Every model, by name."""
        return tuple(self._models.values())

    def model(self, name: str) -> ModelHandle | None:
        """The model of that name."""
        return self._models.get(name)

    def baseline(self, baseline_id: int) -> Baseline:
        """Any stored baseline, also one that no version is compared with any more."""
        with self._lock, self._database.read() as conn:
            found = self._baseline(conn, baseline_id)
        assert found is not None
        return found

    def _model(self, conn: Connection, row: ModelRow) -> ModelHandle:
        versions = {
            version.version: VersionHandle(
                version_id=version.id,
                version=version.version,
                stage=version.stage,
                baseline_id=version.baseline_id,
                baseline=self._baseline(conn, version.baseline_id),
            )
            for version in models.list_versions(conn, row.id)
        }
        known = self._models.get(row.name)
        if known is not None and known.versions == versions:
            return known
        return ModelHandle(model_id=row.id, name=row.name, versions=versions)

    def _baseline(self, conn: Connection, baseline_id: int | None) -> Baseline | None:
        if baseline_id is None:
            return None
        if baseline_id not in self._baselines:
            self._baselines[baseline_id] = decode_baseline(baselines.get_blob(conn, baseline_id))
        return self._baselines[baseline_id]
