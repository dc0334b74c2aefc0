"""The configuration: its example, its mistakes, its secrets, and the lines its errors name."""

import hashlib
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from monitor.config import (
    Config,
    ConfigError,
    HeartbeatTarget,
    PagerDutyReceiver,
    RouteTable,
    SecretError,
    SlackReceiver,
    Token,
    WebhookReceiver,
    check,
    load,
    parse,
)
from monitor.config_schema import EffectThresholds
from monitor.config_secrets import AlertmanagerReceiver, AppriseReceiver, DiscordReceiver, TeamsReceiver
from monitor.config_source import KeyPath, Source, locate
from monitor.location import location
from monitor.quantities import format_duration, parse_duration, parse_duration_or_off, parse_size
from monitor.routes import routes_of
from storage.engine import Address

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.toml").read_text(encoding="utf-8")
BAD = sorted((Path(__file__).parent / "bad_configs").glob("*.toml"))
WEBHOOK = '[receivers.w]\ntype = "webhook"\n'


@pytest.fixture(autouse=True)
def _no_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def uncommented() -> str:
    """The example with every setting in force: prose begins with "# ", settings with "#" alone."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE)


def test_the_example_as_shipped_changes_nothing() -> None:
    assert parse(EXAMPLE) == Config()


def test_the_example_with_everything_uncommented_is_the_built_in_defaults() -> None:
    config, built_in = parse(uncommented()), Config()
    for section in ("server", "storage", "auth", "defaults", "alerts", "log"):
        assert getattr(config, section) == getattr(built_in, section), section
    assert config.settings("example-model") == built_in.defaults
    slack, webhook = config.receivers["slack-example"], config.receivers["webhook-example"]
    assert slack == SlackReceiver(type="slack", url_file=Path("slack-url"))
    assert webhook == WebhookReceiver(
        type="webhook",
        url_file=Path("webhook-url"),
        secret_file=Path("webhook-secret"),
        previous_secret_file=Path("webhook-previous-secret"),
    )
    assert config.receivers["alertmanager-example"] == AlertmanagerReceiver(
        type="alertmanager",
        url=SecretStr("http://alertmanager.example:9093"),
        authorization_file=Path("alertmanager-authorization"),
    )
    assert config.receivers["teams-example"] == TeamsReceiver(type="teams", url_file=Path("teams-url"))
    assert config.receivers["apprise-example"] == AppriseReceiver(
        type="apprise", url_file=Path("apprise-url")
    )
    assert config.receivers["discord-example"] == DiscordReceiver(
        type="discord", url_file=Path("discord-url")
    )
    pager = config.receivers["pagerduty-example"]
    assert pager == PagerDutyReceiver(type="pagerduty", routing_key_file=Path("pagerduty-key"))
    assert config.heartbeat == HeartbeatTarget(url_file=Path("heartbeat-url"))
    without = config.model_copy(update={"routes": ()})
    assert routes_of(config) == routes_of(without)


@pytest.mark.parametrize(
    "section",
    [
        type(getattr(Config(), name))
        for name in Config.model_fields
        if name not in ("models", "receivers", "routes", "heartbeat")
    ],
)
def test_every_key_with_a_default_is_in_the_example(section: type[BaseModel]) -> None:
    keys = [field.alias or name for name, field in section.model_fields.items()]
    assert [key for key in keys if not re.search(rf"(?m)^#{key} = ", EXAMPLE)] == []


@pytest.mark.parametrize(
    "section",
    [SlackReceiver, WebhookReceiver, PagerDutyReceiver, Token, EffectThresholds, RouteTable, HeartbeatTarget],
)
def test_every_other_key_is_explained_in_the_example(section: type[BaseModel]) -> None:
    keys = [field.alias or name for name, field in section.model_fields.items()]
    assert [key for key in keys if not re.search(rf"\b{key}\b", EXAMPLE)] == []


def test_the_promised_defaults() -> None:
    """The promised numbers: what people rely on without having written it down."""
    config = Config()
    assert (config.server.host, config.server.port, config.server.is_loopback) == ("127.0.0.1", 8787, True)
    assert config.defaults.windows == tuple(timedelta(hours=h) for h in (0.25, 1, 6, 24))
    assert config.defaults.false_pages_per_year == 0.1
    assert (config.defaults.rule, config.defaults.preset.value) == (None, "auto")
    assert config.defaults.severity.of(1.0) == "critical"
    assert config.defaults.lateness == timedelta(seconds=60)
    assert config.defaults.page_max_age == timedelta(hours=6)
    assert config.defaults.keep_firing_for == timedelta(hours=1)
    assert (config.storage.payload_bytes, config.storage.payload_retention) == (5 * 2**30, timedelta(days=7))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_configuration_is_refused_with_file_line_and_key(path: Path) -> None:
    expected = [
        f"{path}:{line}" for line in re.findall(r"(?m)^# expect: (.*)$", path.read_text(encoding="utf-8"))
    ]
    assert expected, "the file says what is expected of it"
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert list(raised.value.errors) == expected
    assert "hunter2" not in str(raised.value)


def test_there_are_bad_configurations() -> None:
    assert len(BAD) >= 30


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: No such file"):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'[log]\n# ok\nlevel = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"latin.toml:3: not UTF-8"):
        load(tmp_path / "latin.toml")


def test_a_model_overrides_key_by_key() -> None:
    config = parse(
        '[defaults]\nlateness = "5s"\npage_max_age = "off"\nfor = "2m"\n[models.m]\nlateness = "0s"\n'
    )
    own, other = config.settings("m"), config.settings("another")
    assert (own.lateness, other.lateness) == (timedelta(0), timedelta(seconds=5))
    assert own.page_max_age is other.page_max_age is None
    assert own.for_duration == timedelta(minutes=2)


def test_a_mistake_in_defaults_is_not_repeated_for_each_model() -> None:
    with pytest.raises(ConfigError) as raised:
        parse('[defaults]\nlateness = 3\n[models.a]\npane = "1m"\n[models.b]\nlateness = 4\n')
    assert [error.split(": a duration")[0] for error in raised.value.errors] == [
        "config.toml:2: defaults.lateness",
        "config.toml:6: models.b.lateness",
    ]


@pytest.mark.parametrize(
    ("bind", "loopback"),
    [
        ("127.0.0.1:1", True), ("127.8.9.10:1", True), ("[::1]:1", True), ("localhost:1", True),
        ("0.0.0.0:1", False), ("[::]:1", False), ("10.0.0.1:1", False), ("localhost.example.com:1", False),
    ],
)  # fmt: skip
def test_only_loopback_may_do_without_tokens(bind: str, loopback: bool) -> None:
    text = f'[server]\nbind = "{bind}"\n'
    if loopback:
        assert parse(text).server.is_loopback
    else:
        with pytest.raises(ConfigError, match=r"config.toml:2: server.bind"):
            parse(text)
        token = f'[[auth.tokens]]\nname = "a"\nscopes = ["read"]\nsha256 = "{"0" * 64}"\n'
        assert parse(text + token).auth.tokens[0].scopes == ("read",)


def test_links_lead_to_the_public_address() -> None:
    assert parse('[server]\nbind = "[::1]:99"\n').server.public_url == "http://[::1]:99"
    assert (
        parse('[server]\npublic_url = "https://d.example/drift/"\n').server.public_url
        == "https://d.example/drift"
    )


def test_state_stands_where_systemd_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Config().storage.state_dir == Path.home() / ".local/state/driftd"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Config().storage.state_dir == tmp_path / "driftd"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/driftd:/var/lib/other")
    assert Config().storage.state_dir == Path("/var/lib/driftd")


def test_relative_paths_stand_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "driftd.toml").write_text('[storage]\nstate_dir = "state"\n', encoding="utf-8")
    assert load(tmp_path / "driftd.toml").storage.state_dir == tmp_path / "state"


def test_nothing_in_a_configuration_can_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Config().server, "bind", "0.0.0.0:1")  # noqa: B010 - mypy knows too that it is frozen


def test_secrets_come_from_four_places_and_never_show(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "https://hooks.example/hunter2"
    (tmp_path / "url").write_text(secret + "\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("HOOK", secret)
    for line in (f'url = "{secret}"', 'url_file = "url"', 'url_credential = "url"', 'url_env = "HOOK"'):
        config = parse(f"{WEBHOOK}{line}\n", directory=tmp_path)
        receiver = config.receivers["w"]
        assert isinstance(receiver, WebhookReceiver)
        assert receiver.read_url().get_secret_value() == secret
        assert "hunter2" not in repr(config) + str(config) + config.model_dump_json() + "".join(check(config))


def test_the_address_of_the_database_is_a_secret_like_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "postgres://driftd:hunter2@127.0.0.1/driftd"
    (tmp_path / "url").write_text(secret + "\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("DB", secret)
    for line in (f'url = "{secret}"', 'url_file = "url"', 'url_credential = "url"', 'url_env = "DB"'):
        config = parse(f"[storage]\n{line}\n", directory=tmp_path)
        address = location(config)
        assert isinstance(address, Address)
        assert address.name == "PostgreSQL database driftd on 127.0.0.1"
        told = repr(config) + str(config) + config.model_dump_json() + "".join(check(config)) + repr(address)
        assert "hunter2" not in told
    assert location(parse('[storage]\nurl = ""\nstate_dir = "s"\n', directory=tmp_path)) == tmp_path / "s"


def test_an_address_of_the_database_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    config = parse('[storage]\nurl_file = "missing"\n', directory=tmp_path)
    with pytest.raises(SecretError, match=r"^storage\.url_file: .*No such file"):
        location(config)
    assert any(warning.startswith("storage.url_file: ") for warning in check(config))


@pytest.mark.parametrize(
    ("line", "content", "complaint"),
    [
        ('url_file = "url"', None, "url_file: .*No such file"),
        ('url_file = "url"', "", "one line and nothing else"),
        ('url_file = "url"', "https://a.example/hunter2\nhttps://b.example\n", "one line and nothing else"),
        ('url_file = "url"', "hunter2", "url: not an address"),
        ('url_credential = "url"', None, "CREDENTIALS_DIRECTORY is not set"),
        ('url_env = "NO_SUCH_HOOK"', None, "no variable NO_SUCH_HOOK"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_but_not_shown(
    tmp_path: Path, line: str, content: str | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_text(content, encoding="utf-8")
    receiver = parse(f"{WEBHOOK}{line}\n", directory=tmp_path).receivers["w"]
    assert isinstance(receiver, WebhookReceiver)
    with pytest.raises(SecretError, match=complaint) as raised:
        receiver.read_url()
    assert "hunter2" not in str(raised.value)


def test_a_token_file_is_known_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("hunter2\n", encoding="utf-8")
    config = parse(
        '[[auth.tokens]]\nname = "a"\nscopes = ["ingest:m"]\ntoken_file = "t"\n', directory=tmp_path
    )
    # printf %s hunter2 | sha256sum
    assert (
        config.auth.tokens[0].read_digest()
        == "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7"
    )
    assert hashlib.sha256(b"hunter2").hexdigest() == config.auth.tokens[0].read_digest()


def test_check_warns_of_what_is_unwise(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://hooks.example/x", encoding="utf-8")
    (tmp_path / "url").chmod(0o644)
    config = parse(
        f"""
        [server]
        bind = "0.0.0.0:8787"
        [storage]
        payload_retention = "1h"
        [[auth.tokens]]
        name = "a"
        sha256 = "{"0" * 64}"
        scopes = ["read"]
        [defaults]
        ignore = ["zip"]
        weights = {{ zip = 2 }}
        false_pages_per_year = 50
        {WEBHOOK}url_file = "url"
        """,
        directory=tmp_path,
    )
    found = check(config)
    for place in (
        "server.bind: tokens and predictions travel unencrypted",
        "server.public_url: links",
        "auth.tokens: none may ingest",
        "receivers.w: no secret",
        "receivers.w: messages to an http:// address",
        "receivers.w.url_file: every user of this machine can read",
        "defaults.false_pages_per_year: 50",
        "defaults.ignore: zip",
        "defaults.windows: rows are kept 1h",
    ):
        assert sum(warning.startswith(place) for warning in found) == 1, (place, found)
    assert len(found) == 9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('rule = "ks_p_value"', "KS p < 0.05 in any column was permanently in alarm on batches of 10 equal rows"),
        ('rule = { ks_p_value = 0.001 }', "cover KS p < 0.001 in any column; simulated over 24 h"),
        ('rule = "ks_bonferroni"', "paged 168 times a year on independent rows, 2 a minute"),
        ('rule = "psi"', "PSI ≥ 0.1 paged 288 times a year on batches of 10 equal rows, 2 rows a minute"),
        ("rule = { psi = 0.3 }", "PSI ≥ 0.25 did not page in 0.25 model-years of batches"),
        ('rule = "wasserstein"', "was permanently in alarm on independent rows, one in ten minutes"),
    ],
)  # fmt: skip
def test_check_says_what_a_classic_rule_costs(line: str, said: str) -> None:
    (warning,) = [w for w in check(parse(f"[models.m]\n{line}\n")) if ".rule:" in w]
    assert warning.startswith("models.m.rule: false_pages_per_year does not cover ")
    assert said in warning
    assert sum(".rule:" in w for w in check(parse(f"[defaults]\n{line}\n[models.m]\nfor = '1m'\n"))) == 1


def test_check_says_what_counts_alone_give_up() -> None:
    found = check(parse('[models.a]\nkeep_rows = false\n[storage]\npayload_retention = "1h"\n'))
    (said,) = [warning for warning in found if warning.startswith("models.a.")]
    assert said.startswith(
        "models.a.keep_rows: false keeps counts alone: a new baseline begins without the rows"
    )
    assert any(warning.startswith("defaults.windows: rows are kept 1h") for warning in found)
    found = check(parse('[defaults]\nkeep_rows = false\n[models.a]\npane = "10s"\n'))
    assert [warning.partition(":")[0] for warning in found if "keep_rows" in warning] == [
        "defaults.keep_rows"
    ]


def test_check_warns_of_settings_that_a_rule_or_preset_makes_idle() -> None:
    found = check(parse('[defaults]\nrule = "psi"\neffect = { age = { ks = 0.2 } }\n'))
    assert sum(w.startswith("defaults.effect: thresholds") for w in found) == 1
    found = check(parse('[models.m]\npreset = "C"\nlearning = false\n'))
    assert sum(w.startswith("models.m.preset: C allows") for w in found) == 1
    assert not any("preset" in w for w in check(parse('[models.m]\npreset = "C"\n')))


def test_severities_as_words_and_as_steps() -> None:
    def opens(line: str) -> list[str]:
        severity = parse(f"[defaults]\n{line}\n").defaults.severity
        return [severity.of(ratio).value for ratio in (1.0, 1.9, 2.0, 50.0)]

    assert opens("") == opens('severity = "critical"') == ["critical"] * 4
    assert opens('severity = "warning"') == opens("severity = { warning = 1 }") == ["warning"] * 4
    steps = ["warning", "warning", "critical", "critical"]
    assert (
        opens("severity = { warning = 1.0, critical = 2.0 }") == opens("severity = { critical = 2 }") == steps
    )


def test_check_has_nothing_to_say_of_a_sound_configuration(tmp_path: Path) -> None:
    for name in ("url", "secret"):
        (tmp_path / name).write_text("https://hooks.example/x", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    config = parse(f'{WEBHOOK}url_file = "url"\nsecret_file = "secret"\n', directory=tmp_path)
    assert check(config) == []
    assert check(Config()) == [
        "receivers: there are none, so nobody is told of an alert; add [receivers.NAME]"
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("250ms", 0.25),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "15", "15 m", "-1m", "1.5h", "1h1h", "m", "1y", "١m", True, None, "99999999w", "01m"]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_off_is_a_duration_only_where_it_may_be() -> None:
    assert parse_duration_or_off("off") is None
    with pytest.raises(ValueError, match='or "off"'):
        parse_duration_or_off("never")
    with pytest.raises(ConfigError, match=r"defaults\.lateness"):
        parse('[defaults]\nlateness = "off"\n')


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_000)))
def test_a_duration_reads_back_as_written(span: timedelta) -> None:
    whole = span - span % timedelta(milliseconds=1)
    assert parse_duration(format_duration(span)) == whole


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("512B", 512), ("1KiB", 1024), ("64 MiB", 2**26), ("1TiB", 2**40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "5GB", "1.5GiB", "-1B", "GiB", 5, True, None, "5gib"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


# The locator against tomllib: in these documents every value is the number of the line it stands in.

_KEY = st.from_regex(r"[a-z]{1,2}", fullmatch=True) | st.sampled_from(
    ['"a.b"', "'c [d]'", '"#"', '"\\u00e9"', '"="']
)
_NOISE = st.sampled_from(["", "# a [comment] = {", " \t", "# 'quote", '# """'])
_DECOYS = st.sampled_from(
    [
        '"[x]\\n = 1"',
        "'''\nx = 1\n[a]\n'''",
        '"""\n#\\"""\n[b]"""',
        "1979-05-27T07:32:00.5Z",
        "1.5e3",
        "[[1,\n2],\n[{}]]",
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines: list[str] = []

    def here() -> int:
        return "\n".join([*lines, ""]).count("\n") + 1

    for _ in range(draw(st.integers(1, 6))):
        lines.append(draw(_NOISE))
        header = ".".join(draw(st.lists(_KEY, min_size=1, max_size=3)))
        lines.append(draw(st.sampled_from(["[{}]", "[[{}]]", " [ {} ] # [no]"])).format(header))
        for _ in range(draw(st.integers(0, 4))):
            key = " . ".join(draw(st.lists(_KEY, min_size=1, max_size=2)))
            shape = draw(st.integers(0, 4))
            line = here()
            if shape == 0:
                lines.append(f"{key} = {line} # x = 1")
            elif shape == 1:
                lines.append(f"{key} = {{ p = {line}, q.r = [{line}, {{ s = {line} }}] }}")
            elif shape == 2:
                lines.append(f"{key} = [ # ]\n  {line + 1},\n\n  {{ t = {line + 3} }}, ]")
            else:
                lines.append(f"{key} = {draw(_DECOYS)}")
    return "\n".join(lines)


def leaves(value: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [(path, value)]


@given(documents())
def test_the_locator_names_the_line_of_every_key(text: str) -> None:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a key twice: the locator is only ever given what tomllib accepts
    lines = locate(text)
    for path, value in leaves(parsed):
        assert path in lines
        if type(value) is int and value > 2:
            assert lines[path] == value


def test_what_the_file_lacks_is_placed_at_its_nearest_ancestor() -> None:
    source = Source("x.toml", "\n[a]\nb.c = 1\n")
    assert [source.line(path) for path in (("a", "b", "c"), ("a", "b", "z"), ("a", "z"), ("z",))] == [
        3,
        3,
        2,
        1,
    ]
