"""A changed configuration, applied to the running daemon: all of it, or nothing and why."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alerts.errors import AlertError
from monitor.app import Prepared, Service
from monitor.config import Config, ConfigError, SecretError
from storage.errors import StorageError

FIXED: Final = ("server", "storage", "log")
"""Sections that are read once: sockets, files and memory hang on them."""

log = logging.getLogger("driftd.reload")


class ReloadRefused(Exception):
    """The old configuration stays; `errors` say why."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        self.errors = errors
        super().__init__("\n".join(errors))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """Which sections changed, and which keys are changed in the file but wait for a restart."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reload(service: Service, load: Callable[[], Config], *, actor: str) -> Reloaded:
    """Read the configuration again and put it in force. Raises ReloadRefused; then nothing has changed."""
    try:
        read = load()
        waiting = _waiting(service.config, read)
        config = read.model_copy(update={name: getattr(service.config, name) for name in FIXED})
        _still_closed(config)
        _same_types(service, config)
        changed = tuple(
            name
            for name in Config.model_fields
            if name not in FIXED and getattr(config, name) != getattr(service.config, name)
        )
        # Prepared even where nothing changed: a secret's file may have.
        service.adopt(Prepared.of(service, config), changed=changed, actor=actor)
    except ConfigError as error:
        refused = error.errors
    except (SecretError, AlertError, StorageError, ValueError) as error:
        refused = (str(error),)
    else:
        log.info("the configuration was reloaded; changed: %s", ", ".join(changed) or "nothing")
        for key in waiting:
            log.warning("%s is changed in the file, but holds only after a restart", key)
        return Reloaded(changed=changed, needs_restart=waiting)
    for line in refused:
        log.error("the configuration was not reloaded, the old one stays: %s", line)
    raise ReloadRefused(refused)


def _waiting(old: Config, new: Config) -> tuple[str, ...]:
    """Keys of the fixed sections that differ. Port 0 stays what the system chose."""
    return tuple(
        f"{section}.{key}"
        for section in FIXED
        for key in type(getattr(old, section)).model_fields
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
        and not (section == "server" and key in ("bind", "public_url") and new.server.port == 0)
    )


def _still_closed(config: Config) -> None:
    """The address that is bound stays, so tokens must too where others can reach it."""
    if not config.server.is_loopback and not config.auth.tokens:
        raise ValueError(
            f"auth.tokens: none are left, but server.bind {config.server.bind} can be reached by others"
        )


def _same_types(service: Service, config: Config) -> None:
    """What waits for a receiver is written in its form already."""
    for name, entry in config.receivers.items():
        known = service.config.receivers.get(name)
        if known is not None and known.type != entry.type:
            raise ValueError(
                f"receivers.{name}.type: cannot become {entry.type} while messages in the form of {known.type} may wait; "
                "give the new receiver another name, or restart"
            )
