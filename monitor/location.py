"""Where the database is, as the configuration says."""

from pathlib import Path

from monitor.config import Config
from storage.engine import Address


def location(config: Config) -> Path | Address:
    """The state directory, or the PostgreSQL database of `storage.url`.

    Raises SecretError where the address cannot be read, DatabaseRefused where it is none.
    """
    url = config.storage.read_url()
    return config.storage.state_dir if url is None else Address(url.get_secret_value())
