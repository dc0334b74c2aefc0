"""[[routes]] as the alerts room knows them, and what is unwise about them."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from alerts.dedup import NotifyPolicy
from alerts.identity import AlertKind, Labels, Severity, alert_labels
from alerts.ports import ReceiverSettings
from alerts.routing import Route, parse_matcher, reachable, route, taken_by
from monitor.config_schema import AnyReceiver, Config
from monitor.quantities import format_duration


def routes_of(config: Config) -> tuple[Route, ...]:
    """The configured routes; without any, one that leads everything to everybody."""
    if not config.routes:
        return (Route(receivers=tuple(config.receivers)),)
    return tuple(
        Route(
            receivers=table.receivers,
            matchers=tuple(map(parse_matcher, table.matchers)),
            goes_on=table.goes_on,
            group_wait=table.group_wait,
            group_interval=table.group_interval,
            repeat_interval=table.repeat_interval,
        )
        for table in config.routes
    )


def policy_of(
    config: Config, receiver: ReceiverSettings | AnyReceiver, routes: Iterable[Route] = ()
) -> NotifyPolicy:
    """When `receiver` is told, and of what. An incident that came by several routes takes the shortest of their spans."""
    by = list(routes)
    wait = _shortest([one.group_wait for one in by], config.alerts.group_wait)
    interval = _shortest([one.group_interval for one in by], config.alerts.group_interval)
    return NotifyPolicy(
        group_wait=wait,
        critical_wait=min(wait, NotifyPolicy().critical_wait),
        group_interval=interval,
        repeat_interval=max(
            interval, _shortest([one.repeat_interval for one in by], config.alerts.repeat_interval)
        ),
        send_resolved=receiver.send_resolved,
        min_severity=Severity(receiver.min_severity),
    )


def _shortest(spans: Sequence[timedelta | None], general: timedelta) -> timedelta:
    return min((general if span is None else span for span in spans), default=general)


def check_routes(config: Config) -> Iterator[str]:
    """Warnings of receivers no route leads to, routes nothing comes to, and alerts that no route takes."""
    if not config.routes:
        return
    routes = routes_of(config)
    live = reachable(routes)
    for position in range(len(live), len(routes)):
        yield f"routes[{position}]: never reached, because routes[{len(live) - 1}] takes every alert; move it up"
    led_to = {name for route in live for name in route.receivers}
    for name in config.receivers:
        if name not in led_to:
            yield f"receivers.{name}: no route leads there, so it is never told of anything; name it in [[routes]]"
    untaken = [alert for alert in sample_alerts(config) if not taken_by(*alert, routes)]
    if untaken:
        labels, severity = untaken[0]
        words = ", ".join(f"{name}={value}" for name, value in labels.items() if name in ("kind", "model"))
        yield (
            f"routes: no route takes some alerts, so nobody is told of them, such as {words}, severity={severity.value}; "
            "let the last route have no matchers"
        )


def sample_alerts(config: Config) -> Iterator[tuple[Labels, Severity]]:
    """One alert of each kind and severity, of each model that is named, of one that is not, and of a segment."""
    for kind in AlertKind:
        if kind is AlertKind.TEST:
            continue
        severities = (Severity.WARNING,) if kind is AlertKind.WATCH else (Severity.CRITICAL, Severity.WARNING)
        for severity in severities:
            if kind is AlertKind.RECEIVER_BROKEN:
                yield alert_labels(kind, receiver="a-receiver"), severity
                continue
            for model in (*config.models, "another-model"):
                yield alert_labels(kind, model, "a-version", "", "a-column"), severity
                yield alert_labels(kind, model, "a-version", "a-tag=a-value", "a-column"), severity


def destinations(
    config: Config,
    *,
    kind: str,
    severity: str,
    model: str = "",
    version: str = "",
    segment: str = "",
    column: str = "",
) -> list[dict[str, str]]:
    """Who would be told of such an alert, by which route and when. ValueError for a kind or severity that is none."""
    for name, word, words in (("kind", kind, AlertKind), ("severity", severity, Severity)):
        if word not in list(words):
            raise ValueError(f"{name}: {word!r} is none of {', '.join(words)}")
    labels = alert_labels(AlertKind(kind), model, version, segment, column, receiver=_OTHER.get(kind, ""))
    routes = routes_of(config)
    told = []
    for name, way in route(labels, Severity(severity), routes).items():
        if Severity(severity) < config.receivers[name].min_severity:
            continue
        policy = policy_of(config, config.receivers[name], [way])
        spans = (policy.wait(Severity(severity)), policy.group_interval, policy.repeat_interval)
        wait, interval, repeat = map(format_duration, spans)
        told.append(
            {
                "receiver": name,
                "route": f"routes[{routes.index(way)}]" if config.routes else "all to all",
                "group_wait": wait,
                "group_interval": interval,
                "repeat_interval": repeat,
            }
        )
    return told


_OTHER = {AlertKind.RECEIVER_BROKEN.value: "another-receiver"}
