"""Onto what the batches of a version are folded: its own baseline, or the one that came before and they were counted on."""

from collections.abc import Iterator, Sequence

from detectors.profile import Baseline
from monitor.bases import Bases
from monitor.catalog import Catalog
from monitor.config_schema import ModelSettings
from monitor.counting import Onto, by_baseline
from monitor.folding import Target
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import span_ns
from monitor.liveness import BUSY
from storage import baselines
from storage.batches import StoredBatch
from storage.engine import Database


class Targets:
    """The target of each version's batches, as the configuration has it."""

    def __init__(self, database: Database, catalog: Catalog, bases: Bases) -> None:
        self._database = database
        self._catalog = catalog
        self._bases = bases

    def of(
        self,
        model: ModelHandle,
        version_id: int,
        baseline_id: int,
        baseline: Baseline,
        settings: ModelSettings,
    ) -> Target:
        """One baseline of one version."""
        return Target(
            model_id=model.model_id,
            version_id=version_id,
            onto=Onto(
                baseline_id=baseline_id,
                base=self._bases.of(baseline_id, baseline),
                segment_keys=settings.segments,
            ),
            lateness_ns=span_ns(settings.lateness),
            gap_ns=span_ns(settings.no_traffic_after or BUSY),
        )

    def split(
        self,
        model: ModelHandle,
        version: VersionHandle,
        group: Sequence[StoredBatch],
        settings: ModelSettings,
    ) -> Iterator[tuple[Target, list[StoredBatch]]]:
        """Batches of a version that has a baseline, with where they go.

        What came as counts goes onto the baseline it was counted on, also where the version has another by now; if that
        is one the version never had, its current one is the target, and the fold sets the batch aside.
        """
        assert version.baseline is not None
        assert version.baseline_id is not None
        current = version.baseline.fingerprint
        for fingerprint, part in by_baseline(group, current).items():
            baseline_id: int | None = version.baseline_id
            if fingerprint != current:
                with self._database.read() as conn:
                    baseline_id = baselines.find(conn, version.version_id, fingerprint)
            if baseline_id is None or baseline_id == version.baseline_id:
                baseline_id, baseline = version.baseline_id, version.baseline
            else:
                baseline = self._catalog.baseline(baseline_id)
            yield self.of(model, version.version_id, baseline_id, baseline, settings), part
