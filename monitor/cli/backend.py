"""One way to the daemon's API for every command, whether a daemon runs or not.

A state directory that is locked belongs to a running daemon, which is asked over HTTP. Where none runs, and on
PostgreSQL, where several may write, this process opens the store and asks the same application itself, without
starting a loop.
"""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

from monitor.cli.running import CommandFailed, Session

if TYPE_CHECKING:
    from monitor.config import Config, Server
    from storage.engine import Database

TIMEOUT_SECONDS: Final = 90.0
"""Longer than a test notification may take: a receiver's timeout of up to 60 s and the queue before it."""
_JSON: Final = "application/json"
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # looked up, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API said: decoded JSON, or bytes where it sent something else."""

    status: int
    value: Any


class _Exchange(Protocol):
    def __call__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes]: ...


class Backend:
    """The API of one store."""

    def __init__(self, exchange: _Exchange, *, running: bool) -> None:
        self._exchange = exchange
        self.running = running

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        json_body: Any = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request and its answer, whatever the status. `path` is encoded already; None leaves a query out."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        headers = {}
        if json_body is not None:
            headers["Content-Type"] = _JSON
            body = json.dumps(json_body).encode()
        elif body is not None:
            headers["Content-Type"] = "application/octet-stream"
        status, media, content = self._exchange(method, target, headers, body or b"")
        is_json = media.partition(";")[0].endswith("json")
        try:
            return Answer(status=status, value=json.loads(content) if is_json else content)
        except ValueError:
            raise CommandFailed(f"{path}: the answer is not the JSON it says it is") from None

    def get(self, path: str, **query: str | None) -> Any:
        """The value at `path`; CommandFailed with the daemon's own words where it refuses."""
        return self.expect(self.call("GET", path, query=query))

    @staticmethod
    def expect(answer: Answer) -> Any:
        """The value of a success; CommandFailed for a refusal."""
        if 200 <= answer.status < 300:
            return answer.value
        raise CommandFailed(_refusal(answer))


@contextmanager
def open_backend(
    session: Session, *, config: "Config | None" = None, create: bool = False
) -> Iterator[Backend]:
    """The API of the configured store. `create` makes the store where there is none yet. CommandFailed."""
    from alerts.errors import AlertError
    from monitor.config import SecretError
    from monitor.location import location
    from storage.engine import Database
    from storage.errors import StateDirectoryInUse, StorageError

    config = config or session.config()
    try:
        database: Database | None = Database.open(location(config), create=create)
    except StateDirectoryInUse:
        database = None
    except (SecretError, StorageError) as error:
        raise CommandFailed(str(error)) from None
    if database is None:
        yield Backend(_over_http(config.server, _token(session)), running=True)
        return
    try:
        yield Backend(_in_process(config, database), running=False)
    except (AlertError, SecretError, StorageError) as error:
        raise CommandFailed(str(error)) from None
    finally:
        database.close()


def _in_process(config: "Config", database: "Database") -> _Exchange:
    from monitor.api.application import create_app
    from monitor.api.auth import Authenticator
    from monitor.api.inprocess import ask
    from monitor.app import Service

    # Who may open the database may do everything to it: no token is asked for.
    app = create_app(Service(config, database), authenticator=Authenticator(lambda: ()))

    def exchange(method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, bytes]:
        reply = ask(app, method, target, headers=headers, body=body)
        return reply.status, reply.headers.get("content-type", ""), reply.body

    return exchange


def _over_http(server: "Server", token: str | None) -> _Exchange:
    host, port = _ANYWHERE.get(server.host, server.host), server.port
    if not port:
        raise CommandFailed(
            "a daemon runs, but server.bind has port 0, so nobody knows where; give it a port of its own"
        )

    def exchange(method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            connection.request(method, target, body=body or None, headers={**headers, **bearer})
            reply = connection.getresponse()
            return reply.status, reply.headers.get("Content-Type", ""), reply.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandFailed(
                f"a daemon holds the state directory, but server.bind {server.bind} does not answer: {why}"
            ) from None
        finally:
            connection.close()

    return exchange


def _token(session: Session) -> str | None:
    path = session.token_file or (Path(given) if (given := os.environ.get("DRIFTD_TOKEN_FILE")) else None)
    if path is None:
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise CommandFailed(f"{path}: a token is ASCII text") from None
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    if not token or not token.isprintable() or " " in token:
        raise CommandFailed(f"{path}: should hold one token on one line and nothing else")
    return token


def _refusal(answer: Answer) -> str:
    """The daemon's own words; 401 and 403 with what to do about it."""
    detail = answer.value.get("detail") if isinstance(answer.value, dict) else None
    words = str(detail or f"the daemon answered HTTP {answer.status}")
    if answer.status in (401, 403):
        words += " (name a token with --token-file or $DRIFTD_TOKEN_FILE)"
    return " ".join(words.split())
