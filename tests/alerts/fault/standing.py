"""Puts a fault behind an address: a server, a closed port, a full backlog, or a bad certificate."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.alerts.fault.catalogue import Fault
from tests.alerts.wire import server
from tests.ports import reserved_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM files with their keys, each its own authority; `expired` and `wrong_host` are to be trusted, and fail all the same."""

    good: Path
    wrong_host: Path
    expired: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a receiver is to post; `ca_file` is empty for the public authorities."""

    url: str
    ca_file: str = ""


def make_certificates(openssl: str, directory: Path) -> Certificates:
    """Three certificates by the openssl program."""
    return Certificates(
        good=_certificate(openssl, directory / "good.pem", "IP:127.0.0.1", days=2),
        wrong_host=_certificate(openssl, directory / "wrong.pem", "DNS:elsewhere.example", days=2),
        expired=_certificate(openssl, directory / "expired.pem", "IP:127.0.0.1", days=-1),
    )


def _certificate(openssl: str, path: Path, name: str, *, days: int) -> Path:
    key, asked = path.with_suffix(".key"), path.with_suffix(".csr")
    new = [
        *(openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=hooks", "-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(asked)),
    ]
    signed = [openssl, "x509", "-req", "-in", str(asked), "-signkey", str(key), "-days", str(days)]
    signed += ["-copy_extensions", "copy", "-out", str(path)]
    for command in (new, signed):
        subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


@contextlib.contextmanager
def standing(fault: Fault, certificates: Certificates, path: str) -> Iterator[Place]:
    """The fault at an address on loopback while the block lasts."""
    if fault.stage == "refusing":
        yield Place(url=f"http://127.0.0.1:{reserved_port()}{path}")
    elif fault.stage == "blackhole":
        with _blackhole() as port:
            yield Place(url=f"http://127.0.0.1:{port}{path}")
    elif fault.stage == "serving":
        with server(fault.script) as peer:
            yield Place(url=f"http://127.0.0.1:{peer.port}{path}")
    else:
        yield from _with_certificate(fault, certificates, path)


def _with_certificate(fault: Fault, certificates: Certificates, path: str) -> Iterator[Place]:
    shown = {
        "self-signed": certificates.good,
        "wrong host": certificates.wrong_host,
        "expired": certificates.expired,
    }[fault.stage]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown)
    with server(fault.script, context) as peer:
        trusted = "" if fault.stage == "self-signed" else str(shown)
        yield Place(url=f"https://127.0.0.1:{peer.port}{path}", ca_file=trusted)


@contextlib.contextmanager
def _blackhole() -> Iterator[int]:
    """A port whose backlog is full: the system drops what knocks, as a firewall does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield port
