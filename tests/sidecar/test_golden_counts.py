"""The contract of edge mode: sidecars in the field must understand later daemons, and be understood by them."""

import gzip
from pathlib import Path

import numpy as np

from detectors.coarse import coarsen
from detectors.profile import profile_rows
from driftd_sidecar._cells import parse
from driftd_sidecar._count import Counter
from driftd_sidecar._counted import encode_counts
from driftd_sidecar._frame import frame
from monitor.ingest.cell_document import encode_cells
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.posted_counts import open_counts, read_panes
from tests.sidecar import golden_counts as golden
from tests.sidecar.test_count import by_daemon, table_of

FOLDER = Path(__file__).parent.parent / "golden"
CELLS, COUNTS = (FOLDER / "cells_v1.bin").read_bytes(), (FOLDER / "posted_counts_v1.json").read_bytes()


def test_the_daemon_writes_the_golden_cells() -> None:
    assert encode_cells(golden.baseline(), golden.KEYS) == CELLS


def test_the_sidecar_counts_on_the_golden_cells_and_writes_the_golden_counts() -> None:
    cells = parse(CELLS)
    table = table_of(golden.inputs(), golden.outputs(), time_ns=golden.TIMES, tags={"region": golden.REGIONS})
    panes = Counter(cells).count(frame(table, cells), 0.5)
    assert gzip.decompress(encode_counts(cells, panes, golden.ENVELOPE)) == COUNTS


def test_the_daemon_reads_the_golden_counts_as_the_rows_they_were_made_of() -> None:
    baseline = golden.baseline()
    found = read_panes(open_counts(COUNTS, DecodeLimits()), baseline, golden.KEYS)
    values, _ = by_daemon(table_of(golden.inputs(), golden.outputs()), baseline)
    regions = np.array(golden.REGIONS)
    expected = {"": slice(None), "region=eu": regions == "eu", "region=us": regions == "us"}
    assert [pane.counted.segment for pane in found] == list(expected)
    for pane in found:
        onto = coarsen(baseline) if pane.counted.segment else baseline
        rows = {name: array[expected[pane.counted.segment]] for name, array in values.items()}
        profile = profile_rows(onto, rows)
        np.testing.assert_array_equal(pane.counted.profile.counts, profile.counts)
        np.testing.assert_allclose(pane.counted.profile.moments, profile.moments, rtol=1e-12)
        assert pane.counted.rows_seen == 2 * profile.rows
