"""How right predictions turned out to be, on the pages."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scipy import stats
from starlette.applications import Starlette

from monitor.api.application import create_app
from monitor.api.inprocess import ask
from monitor.performance import Performance
from monitor.web.performance import sentence
from storage import performances
from storage.alerts import AlertRow
from storage.performances import PerformanceRow
from tests.monitor import labelled
from tests.monitor.harness import harness
from tests.monitor.web import gallery
from tests.monitor.web.gallery import SCRIPT, Page
from tests.monitor.web.test_pages import WEIGHT
from tests.monitor.world import World

ADDRESS = f"/models/{gallery.LABELLED}"
AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY = Performance(
    column="late",
    segment="",
    start=AT,
    end=AT + timedelta(days=1),
    rows=4800,
    identified=4800,
    labelled=4320,
    coverage=0.9,
    accuracy=0.914,
    accuracy_low=0.9052,
    accuracy_high=0.922,
    mean_error=None,
    mean_absolute_error=None,
    root_mean_squared_error=None,
    confidence=0.9,
)
NUMBER = replace(
    DAY,
    accuracy=None,
    mean_absolute_error=3.204,
    root_mean_squared_error=4.5,
    mean_error=-0.25,
    confidence=None,
)


@pytest.fixture(scope="module")
def app(world: World) -> Starlette:
    return create_app(world.service)


def get(app: Starlette, target: str) -> Page:
    reply = ask(app, "GET", target)
    assert reply.status == 200
    return Page(reply.body.decode())


def charts(page: Page) -> dict[str, ET.Element]:
    drawn = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page.html, re.DOTALL)]
    return {root.findtext("title") or "": root for root in drawn}


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (
            DAY,
            "accuracy 0.914 (0.905 to 0.922) over 4,320 labelled of 4,800 predictions; 90% labelled, mean confidence 0.90",
        ),
        (
            NUMBER,
            "mean absolute error 3.204 over 4,320 labelled of 4,800 predictions; 90% labelled, root mean squared error 4.5, bias -0.25",
        ),
        (
            replace(DAY, accuracy=None, labelled=0, coverage=0.0, identified=12),
            "none of 4,800 predictions is labelled, 12 with a request id",
        ),
    ],
)
def test_a_day_in_a_sentence(day: Performance, said: str) -> None:
    assert sentence(day) == said


def test_a_model_with_labels_has_a_card_per_prediction_and_charts_of_a_week(app: Starlette) -> None:
    page = get(app, ADDRESS)
    said = " ".join(page.text[page.text.index("Performance") : page.text.index("Columns, most")].split())
    assert f"{SCRIPT} inaccurate accuracy 0.858 (0.847 to 0.868) over 4,152 labelled of 4,798" in said
    assert "Pages where accuracy below 0.9 is certain." in said
    assert "price mean absolute error 4." in said
    assert "none of 4,798 predictions is labelled, 2,398 with a request id" in said
    assert "from 2026-02-28 23:00 to 2026-03-01 23:00" in said
    drawn = charts(page)
    assert list(drawn) == [
        f"Accuracy of {SCRIPT}, hour by hour",
        "Mean absolute error of price, hour by hour",
        "Mean absolute error of stars, hour by hour",
    ]
    told = drawn[f"Accuracy of {SCRIPT}, hour by hour"].findtext("desc") or ""
    assert told.startswith("from 2026-02-22T23:00:00Z to 2026-03-01T23:00:00Z: 156 of 168 hours have labels")
    assert told.endswith("0.9 is the limit")
    lines = [path.get("d", "") for root in drawn.values() for path in root.iter("path")]
    assert [line.count("M") for line in lines[1::2]] == [2, 2, 2]  # the gap of half a day


def test_what_is_never_labelled_has_no_such_section(app: Starlette) -> None:
    for model in (gallery.DRIFTING, gallery.WAITING, gallery.UNSEEN):
        assert "Performance" not in get(app, f"/models/{model}").text


def test_four_columns_and_a_week_are_light(app: Starlette) -> None:
    page = get(app, ADDRESS)
    part = page.html[page.html.index('id="performance"') : page.html.index("Columns, most")]
    assert len(part.encode()) < 12 * 1024
    assert len(page.html.encode()) < WEIGHT


def test_the_overview_names_it_before_drift(app: Starlette) -> None:
    page = get(app, "/")
    assert page.text.index(gallery.LABELLED) < page.text.index(gallery.DRIFTING)
    assert "inaccurate" in page.text


def hours_of(world: World, alert: AlertRow, end: datetime) -> list[PerformanceRow]:
    """The 24 hours of the alert's column up to `end`, as they are stored."""
    upto = int(end.timestamp())
    model = world.service.catalog.model(alert.model)
    assert model is not None
    version_id = model.versions[alert.version].version_id
    with world.service.database.read() as conn:
        found = performances.list_rows(conn, [version_id], start=upto - 86_400, end=upto, segment="")
    return [row for row in found if row.column == alert.column]


def test_the_page_of_its_alert_says_what_was_tested_and_offers_no_new_baseline(
    app: Starlette, world: World
) -> None:
    (alert,) = [a for a in world.alerts() if a.kind == "performance"]
    day = alert.detail["day"]
    rows = hours_of(world, alert, datetime.fromisoformat(day["end"]))
    labelled, correct = sum(row.labelled for row in rows), sum(row.correct for row in rows)
    page = get(app, f"/alerts/{alert.id}")
    text = " ".join(page.text.split())
    seen = f"{labelled:,} of {sum(row.rows for row in rows):,}"
    assert (
        f"accuracy {correct / labelled:.4g} where 0.9 is the least; {seen} labelled, 24 h up to 2026" in text
    )
    assert f"Accuracy{correct / labelled:.4g}, 0.9 is the least" in text
    assert f"Labelled{seen} predictions" in text
    p_value = stats.binomtest(correct, labelled, 0.9, alternative="less").pvalue
    assert f"By chancep {p_value:.2g} at 0.9, pages from 5.7e-05" in text
    assert f"{ADDRESS}?version=1#performance" in page.links
    assert not [link for link in page.links if "/columns/" in link]
    for wrong in ("baseline accept", "Effect", "Evidence", "Strongest bet"):
        assert wrong not in text
    assert "retrain, or go back to the version before" in text


def test_a_segment_shows_its_own_without_the_limits_of_the_whole(tmp_path: Path) -> None:
    text = """
        labels_mature_after = "2h"
        performance = { late = { accuracy = 0.95 } }
        segments = ["region"]
    """
    with harness(tmp_path, text) as daemon:
        daemon.put_baseline(labelled.baseline())
        daemon.service.pipeline.run_once()
        labelled.hours(daemon, 8, rows=120, labelled=120, right=90)
        whole, part = (
            get(daemon.app, target) for target in ("/models/m", "/models/m?version=1&segment=region%3Deu")
        )
        assert re.search(r"late\s+inaccurate\s+accuracy 0\.750 .* over 720 labelled of 720", whole.text)
        assert re.search(r"late\s+accuracy 0\.750 .* over 360 labelled of 360", part.text)
        assert "Pages where" in whole.text
        assert "Pages where" not in part.text
