"""Every page over real data: status, headers, links, names from outside, weight; and all of it without script."""

import base64
import hashlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote, urldefrag, urljoin

import pytest
from starlette.applications import Starlette

from monitor.api.application import create_app
from monitor.api.inprocess import InProcessReply, ask
from monitor.segments import SEGMENTS_PER_BASELINE
from monitor.web.figures import POINTS
from monitor.web.filters import column_of, model_of
from monitor.web.svg import Point, timeline
from tests.monitor.web import gallery
from tests.monitor.web.gallery import Page
from tests.monitor.world import World

HOST = "http://localhost"
WEIGHT = 40 * 1024
_ENDING = ("--for", "4h", "--comment", "why")


@pytest.fixture(scope="module")
def app(world: World) -> Starlette:
    return create_app(world.service)


def get(app: Starlette, target: str, status: int = 200) -> Page:
    reply = ask(app, "GET", target)
    assert reply.status == status, (target, reply.status)
    return Page(reply.body.decode())


def model_address(model: str) -> str:
    return f"/models/{quote(model, safe='')}"


def alert_of(world: World, model: str) -> int:
    return next(alert.id for alert in world.alerts() if alert.model == model)


@cache
def crawled(app: Starlette) -> dict[str, InProcessReply]:
    """Every address that can be reached from the first page by following links, and its answer."""
    found: dict[str, InProcessReply] = {}
    waiting = [f"{HOST}/"]
    while waiting:
        url = waiting.pop()
        if url in found:
            continue
        found[url] = ask(app, "GET", url.removeprefix(HOST))
        page = Page(found[url].body.decode())
        links = [urldefrag(urljoin(url, link)).url for link in page.links]
        # Of thirty columns that are alike, five will do.
        waiting += [link for link in links if not re.search(r"/transaction_feature_([123]|0[5-9])", link)]
    return found


def test_every_link_of_every_page_leads_to_a_page(app: Starlette) -> None:
    pages = crawled(app)
    assert {url for url, reply in pages.items() if reply.status != 200} == set()
    assert all(url.startswith(HOST) for url in pages)
    for model in (
        gallery.DRIFTING,
        gallery.STABLE,
        gallery.WAITING,
        gallery.UNSEEN,
        gallery.ODD,
        gallery.JUDGED,
    ):
        assert f"{HOST}{model_address(model)}" in pages
    for name in (*gallery.NASTY_COLUMNS, "flag", "stars", "note", "colour"):
        assert f"{HOST}{column_of(name, gallery.ODD, '1')}" in pages
    assert len(pages) > 80


def test_every_page_is_closed_to_anything_from_elsewhere(app: Starlette) -> None:
    for url, reply in [*crawled(app).items(), ("missing", ask(app, "GET", "/alerts/999"))]:
        html = reply.body.decode()
        (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        rules = dict(
            rule.strip().split(" ", 1) for rule in reply.headers["content-security-policy"].split(";")
        )
        assert rules == {
            "default-src": "'none'",
            "style-src": f"'sha256-{digest}'",
            "script-src": "'self'",
            "connect-src": "'self'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }, url
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-type"] == "text/html; charset=utf-8"


def test_no_name_from_outside_becomes_markup(app: Starlette) -> None:
    """The tags and attributes of a page are ours, whatever the names say."""
    ours = {
        "a",
        "b",
        "bdi",
        "body",
        "br",
        "circle",
        "code",
        "dd",
        "desc",
        "details",
        "div",
        "dl",
        "dt",
        "footer",
        "g",
    }
    ours |= {
        "h1",
        "h2",
        "head",
        "header",
        "html",
        "i",
        "li",
        "line",
        "link",
        "main",
        "meta",
        "nav",
        "p",
        "path",
    }
    ours |= {
        "polyline",
        "pre",
        "rect",
        "script",
        "section",
        "span",
        "style",
        "summary",
        "svg",
        "table",
        "td",
        "text",
    }
    ours |= {"th", "time", "title", "tr", "ul", "wbr"}
    for url, reply in crawled(app).items():
        page = Page(reply.body.decode())
        assert {tag for tag, _ in page.tags} <= ours, url
        names = {name for _, attributes in page.tags for name in attributes}
        assert not {name for name in names if name.startswith("on") or name == "style"}, url
        scripts = [attributes for tag, attributes in page.tags if tag == "script"]
        assert [sorted(attributes) for attributes in scripts] == [["defer", "src"]], url
        assert [text for tag, text in page.chunks if tag == "script" and text.strip()] == [], url
        assert all(not link.lower().startswith(("javascript:", "data:", "//")) for link in page.links), url


SEGMENTS = [f"region={value}" for value in gallery.REGIONS]


def judged_column(name: str, segment: str = "") -> str:
    return column_of(name, gallery.JUDGED, "1", None, segment)


def test_a_model_says_of_each_column_what_it_has_learned(app: Starlette) -> None:
    html = ask(app, "GET", model_address(gallery.JUDGED)).body.decode()
    rows = re.findall(r'columns/(\w+)\?.*?class="s (\w+)".*?<td class="k">(.*?)</td>', html)
    assert {name: (state, learned) for name, state, learned in rows} == {
        "amount": ("drift", "D ≥ 0.23"),
        "age": ("mismatch", "baseline mismatch"),
        "rain": ("stable", "too variable"),
        "stock": ("stable", "learning"),
        "score": ("stable", "unlearned"),
    }
    page = Page(html)
    assert "1 of 5 columns drifted: amount · never like the baseline: age" in page.text
    learning = re.findall(
        r'<td class="k">(.*?)</td>', ask(app, "GET", model_address(gallery.WIDE)).body.decode()
    )
    assert learning == ["learning"] * 30


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("amount", "Learned from live traffic (2026-02-14 00:00 UTC to 2026-02-28 00:00 UTC)"),
        ("amount", "Smallest shift paged within 6 hD = 0.23"),
        ("amount", "Expected delayabout 45 min after a shift of D = 0.3"),
        ("amount", "Correlation timeabout 1.5 h"),
        ("amount", "One bet per1m"),
        ("amount", "Budget0.1 false pages a year, 10% of the model's"),
        ("amount", "Strongest betamount outside [-3.5"),
        ("amount", "15m0.40.4"),
        ("amount", "1h0.20.2"),
        ("amount", "Thresholds: learned."),
        (
            "age",
            "Baseline mismatch, not drift: production (2026-02-14 00:00 UTC to 2026-02-28 00:00 UTC) never was",
        ),
        ("age", "Smallest shift paged within 6 hnot known"),
        ("age", "Thresholds: those of preset A."),
        ("rain", "Too variable"),
        ("rain", "no shift pages so soon"),
        ("rain", "a shift of D = 0.3 would not page"),
        ("rain", "15mnevernever"),
        ("rain", "Strongest betnone yet"),
        ("stock", "Learning from live traffic since 2026-03-02 01:05 UTC: until two weeks"),
        ("stock", "not known yet"),
        ("score", "Nothing is learned: it is judged by training and tolerance alone."),
    ],
)
def test_a_column_says_how_it_is_judged(app: Starlette, name: str, said: str) -> None:
    page = get(app, judged_column(name))
    assert said in page.text.replace("\n", "")


def test_what_never_was_like_training_is_no_drift_and_what_drifts_is_no_mismatch(app: Starlette) -> None:
    titles = {
        name: next(text for tag, text in get(app, judged_column(name)).chunks if tag == "title")
        for name in ("age", "amount")
    }
    assert titles["age"].startswith("age: mismatch")
    assert titles["amount"].startswith("amount: drift")


def test_segments_are_listed_worst_first_and_have_pages_of_their_own(app: Starlette) -> None:
    page = get(app, model_address(gallery.JUDGED))
    listed = [link for link in page.links if "segment=" in link and "/columns/" not in link]
    assert listed == [
        model_of(gallery.JUDGED, "1", segment) for segment in (SEGMENTS[0], SEGMENTS[2], SEGMENTS[1])
    ]
    for segment in SEGMENTS:
        own = get(app, model_of(gallery.JUDGED, "1", segment))
        assert segment in own.text
        assert "580 rows in the last 1h" in own.text
        columns = [link for link in own.links if "/columns/" in link]
        assert columns[0] == judged_column("amount" if segment == SEGMENTS[0] else "age", segment)
        assert len(columns) == 5
        shown = get(app, columns[-1])
        assert "last 1h, 580 rows" in shown.text
        assert model_of(gallery.JUDGED, "1", segment) in shown.links
        assert all("segment=" in link for link in shown.links if link.startswith("?"))


def test_an_alert_of_a_segment_marks_the_segments_column_and_not_another(
    app: Starlette, world: World
) -> None:
    marks = {
        segment: re.search(
            r'columns/amount\?.*?class="s (\w+)"',
            ask(app, "GET", model_of(gallery.JUDGED, "1", segment)).body.decode(),
        )
        for segment in SEGMENTS
    }
    assert {segment: mark[1] for segment, mark in marks.items() if mark} == {
        SEGMENTS[0]: "drift",
        SEGMENTS[1]: "stable",
        SEGMENTS[2]: "stable",
    }
    (alert,) = [a for a in world.alerts() if (a.segment, a.column) == (SEGMENTS[0], "amount")]
    page = get(app, f"/alerts/{alert.id}")
    (moved,) = [link for link in page.links if "/columns/" in link]
    assert f"segment={quote(SEGMENTS[0], safe='')}" in moved
    assert "last 1h, 580 rows" in get(app, moved).text


def test_traffic_stands_beside_what_is_usual_and_only_where_that_is_known(app: Starlette) -> None:
    page = get(app, model_address(gallery.JUDGED))
    assert "traffic is low" in page.text
    said = page.text[page.text.index("Traffic low") :]
    assert "51.5 rows a minute from 2026-03-02 01:00 to 2026-03-02 01:34" in said
    assert "usual at this hour of the week: 361, and 181 to 722 is nothing unusual" in said
    assert page.html.count("<svg") == 2
    young = get(app, model_address(gallery.STABLE))
    assert "is known after 4 more weeks" in young.text
    assert young.html.count("<svg") == 1
    assert "Traffic" not in get(app, model_address(gallery.UNSEEN)).text
    assert "Traffic" not in get(app, model_of(gallery.JUDGED, "1", SEGMENTS[0])).text


@pytest.mark.parametrize("name", gallery.NASTY_COLUMNS)
def test_a_bad_name_is_shown_as_it_is(app: Starlette, name: str) -> None:
    page = get(app, column_of(name, gallery.ODD, "1"))
    assert next(text for tag, text in page.chunks if tag == "title").startswith(f"{name}: ")
    assert f"{name} stable" in page.text.replace("\n", " ")
    assert f"{gallery.NASTY_MODEL} · version 1" in page.text
    assert f"{name}: baseline against the last" in page.text


def test_the_overview_puts_trouble_first_and_says_what_drifted(app: Starlette) -> None:
    page = get(app, "/")
    order = [page.text.index(f"{name} ") for name in ("credit", "wide", "silent", "calm")]
    assert order == sorted(order)
    assert "1 of 3 columns drifted: temp" in page.text
    assert "30 of 30 columns drifted: transaction_feature_" in page.text
    assert "and 27 more" in page.text
    for state in ("drift", "no traffic", "stable", "pending baseline", "insufficient data"):
        assert state in page.text


def test_a_drifting_model_shows_its_alert_its_evidence_and_its_columns_by_drift(
    app: Starlette, world: World
) -> None:
    page = get(app, model_address(gallery.DRIFTING))
    assert f"/alerts/{alert_of(world, gallery.DRIFTING)}" in page.links
    assert re.search(r"temp: median (39|40)[.\d]* → \d\d", page.text)
    assert "Evidence of drift over time" in page.text
    columns = [link for link in page.links if "/columns/" in link]
    assert columns[0].startswith("/models/credit/columns/temp?")
    assert len(columns) == 3
    assert {"?version=1", "?version=2%20rc%2F1"} <= set(page.links)


def test_another_version_does_not_inherit_the_alerts_of_the_first(app: Starlette) -> None:
    page = get(app, f"{model_address(gallery.DRIFTING)}?version=2%20rc%2F1")
    assert "version 2 rc/1" in page.text
    assert "no window has closed" in page.text


def test_a_stable_model_shows_no_alert(app: Starlette) -> None:
    page = get(app, model_address(gallery.STABLE))
    assert "Open alerts" not in page.text
    assert "0 of 3 columns drifted" in page.text


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (gallery.WAITING, "This version has no baseline yet"),
        (gallery.WAITING, "wait for: driftd baseline build --model waiting --version 1"),
        (gallery.UNSEEN, "no predictions yet"),
        (gallery.UNSEEN, "no window has closed since the baseline was registered"),
        (gallery.SILENT, "silent: last predictions came at 2026-03-02 01:15 UTC"),
    ],
)
def test_an_empty_page_says_why(app: Starlette, model: str, said: str) -> None:
    assert said in get(app, model_address(model)).text


def test_many_alerts_leave_room_for_the_chart(app: Starlette) -> None:
    page = get(app, model_address(gallery.WIDE))
    assert len([link for link in page.links if link.startswith("/alerts/")]) == 5
    assert f"/alerts?model={gallery.WIDE}" in page.links
    assert "and 25 more" in page.text
    listed = get(app, f"/alerts?model={gallery.WIDE}")
    assert len([link for link in listed.links if link.startswith("/alerts/")]) == 30


def test_alerts_are_listed_open_first_with_their_marks_and_the_receivers(
    app: Starlette, world: World
) -> None:
    page = get(app, "/alerts")
    assert len([link for link in page.links if link.startswith("/alerts/")]) == len(world.alerts()) == 40
    assert page.text.count("acknowledged") == 1
    assert page.text.count("silenced") == 1
    assert "hook" in page.text[page.text.index("Delivery") :]


def test_a_long_list_of_alerts_goes_on_at_another_address(
    app: Starlette, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.web.incidents._LISTED", 10)
    seen: list[str] = []
    target = f"/alerts?model={gallery.WIDE}&before=99999999999"
    for _ in range(3):
        page = get(app, target)
        seen += [link for link in page.links if link.startswith("/alerts/")]
        target = next((link for link in page.links if "before=" in link), "")
    assert target == ""
    assert sorted(seen) == sorted(f"/alerts/{a.id}" for a in world.alerts() if a.model == gallery.WIDE)


def test_an_alert_says_what_moved_since_when_who_is_on_it_and_what_to_do(
    app: Starlette, world: World
) -> None:
    alert_id = alert_of(world, gallery.WIDE)
    page = get(app, f"/alerts/{alert_id}")
    assert "acknowledged" in page.text
    assert "<i>ada</i>: on it & looking" in page.text
    assert re.search(r"median (9|10)\d\d[.\d]* → 1\d\d\d", page.text)
    assert "(a page needs 1)" in page.text
    assert "hook (sent)" in page.text
    assert f"driftd alerts ack {alert_id}" in page.text
    (moved,) = [link for link in page.links if "/columns/" in link]
    assert get(app, moved).text.startswith("\n")
    assert "in 1 h" not in page.text  # nothing of the past lies in the future
    silenced = get(app, f"/alerts/{alert_id + 1}")
    assert "grace: known, until 2026-03-02 05:35 UTC" in silenced.text


def test_commands_to_copy_are_safe_in_a_shell(world: World) -> None:
    from dataclasses import replace

    from monitor.incident import commands_of

    drifted = next(alert for alert in world.alerts() if alert.model == gallery.WIDE)
    row = replace(drifted, model=gallery.NASTY_MODEL, column="$(reboot)`reboot`'\"; reboot")
    typed = [shlex.split(command) for command in commands_of(row, [row])]
    assert typed == [
        ["driftd", "alerts", "ack", str(row.id)],
        ["driftd", "silence", "add", "--model", row.model, "--column", row.column, *_ENDING],
        ["driftd", "baseline", "accept", str(row.id)],
    ]
    broken, nameless = replace(row, column="a\nreboot"), replace(row, column="", model="")
    assert not [c for c in commands_of(broken, [broken]) if "reboot" in c]
    assert len(commands_of(nameless, [nameless])) == 1
    other = replace(row, column="other")
    assert shlex.split(commands_of(row, [row, other])[1]) == [
        "driftd",
        "silence",
        "add",
        "--model",
        row.model,
        *_ENDING,
    ]


def test_each_type_of_column_has_its_picture(app: Starlette) -> None:
    pages = {
        name: get(app, column_of(name, gallery.ODD, "1")) for name in ("flag", "stars", "note", "colour")
    }
    labels = {name: [text for tag, text in page.chunks if tag == "text"] for name, page in pages.items()}
    assert {"false", "true"} <= set(labels["flag"])
    assert {"1", "2", "3", "4", "5"} <= set(labels["stars"])
    assert "compared by their length" in pages["note"].text
    assert f"{gallery.SCRIPT}: baseline 4" in pages["colour"].text
    assert "Median" not in pages["flag"].text
    assert "Median" not in pages["colour"].text
    assert "Median" in pages["stars"].text


def test_a_window_can_be_chosen_and_nonsense_is_ignored(app: Starlette) -> None:
    address = column_of("temp", gallery.STABLE, "1")
    assert "last 15m, 900 rows" in get(app, f"{address}&window=900").text
    for nonsense in ("", "x", "-1", "12345678901234", "٣", "901"):
        assert "last 1h, 1,740 rows" in get(app, f"{address}&window={quote(nonsense)}").text
    shifted = get(app, column_of("temp", gallery.DRIFTING, "1", 900))
    assert "beyond the training range" in shifted.text


@pytest.mark.parametrize(
    "target",
    [
        "/models/nobody",
        "/models/credit?version=9",
        "/models/nobody/columns/temp",
        "/models/credit/columns/nothing",
        "/models/credit/columns/",
        "/models/credit/columns/temp?version=9",
        "/models/waiting/columns/temp",
        "/models/judged?segment=region%3Dasia",
        "/models/waiting?segment=region%3Deu",
        "/models/judged/columns/age?segment=region%3Dasia",
        "/models/unseen/columns/temp",
        "/alerts/0",
        "/alerts/999999",
        "/alerts/99999999999999999999999999",
        "/models/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ],
)
def test_what_is_not_there_is_told_in_words(app: Starlette, target: str) -> None:
    page = get(app, target, status=404)
    assert "Not found" in page.text
    assert "/" in page.links
    assert "alert(1)" not in page.html


def test_every_page_weighs_less_than_40_kib(app: Starlette) -> None:
    script = len(ask(app, "GET", "/static/driftd.js").body)
    sizes = {url: len(reply.body) + script for url, reply in crawled(app).items()}
    wide = {url: size for url, size in sizes.items() if "/models/wide" in url}
    assert len(wide) >= 15
    assert {url: size for url, size in sizes.items() if size > WEIGHT} == {}


def test_a_whole_week_on_the_timeline_still_fits(app: Starlette) -> None:
    points = [Point(at=600 * i, value=i / 50, drift=True) for i in range(POINTS)]
    drawn = timeline(points, labels=[], title="", description="")
    page = ask(app, "GET", model_address(gallery.WIDE))
    assert page.body.count(b"<svg") == 1
    assert len(page.body) + len(drawn.encode()) + heaviest_segments(app) <= WEIGHT


def heaviest_segments(app: Starlette) -> int:
    """Bytes of fifty segments and of a chart of traffic."""
    html = ask(app, "GET", model_address(gallery.JUDGED)).body.decode()
    part = html[html.index("<h2>Segments") : html.index("</main>")]
    rows = re.findall(r"<tr><td>.*?</tr>", part)
    assert len(rows) == len(gallery.REGIONS)
    usual = next(row for row in rows if "region=us" in row)
    return len(part.encode()) + len(usual.encode()) * (SEGMENTS_PER_BASELINE - len(rows))


def test_the_script_is_served_as_a_script_and_may_be_kept(app: Starlette) -> None:
    (source,) = [attributes["src"] for tag, attributes in get(app, "/").tags if tag == "script"]
    assert source is not None
    reply = ask(app, "GET", source)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert "max-age" in reply.headers["cache-control"]
    assert "?v=" in source


def test_with_tokens_no_page_opens_without_one(world: World) -> None:
    from monitor.api.auth import READ, Authenticator, Token

    token = Token(name="ops", digest=hashlib.sha256(b"s3cret").digest(), scopes=frozenset({READ}))
    closed = create_app(world.service, authenticator=Authenticator(lambda: [token]))
    for target in ("/", "/models/credit", "/models/credit/columns/temp", "/alerts", "/alerts/1"):
        assert ask(closed, "GET", target).status == 401
        opened = ask(closed, "GET", target, headers={"Authorization": "Bearer s3cret"})
        assert opened.status == 200


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state", config=gallery.CONFIG)
    yield opened
    opened.close()


def test_a_daemon_without_models_says_how_to_begin(empty: World) -> None:
    fresh = create_app(empty.service)
    assert "driftd baseline build" in get(fresh, "/").text
    assert "No alert, open or past." in get(fresh, "/alerts").text
