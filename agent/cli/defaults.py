"""Where commands look when nobody says: `gaia.yaml` here, or what the shell's GAIA_* variables name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CONFIG_VARIABLE: Final = "GAIA_CONFIG"
OVERLAY_VARIABLE: Final = "GAIA_OVERLAY"
ENVIRONMENT_VARIABLE: Final = "GAIA_ENV"
DATA_VARIABLE: Final = "GAIA_DATA"
URL_VARIABLE: Final = "GAIA_URL"


def config() -> Path:
    """The platform file."""
    return Path(os.environ.get(CONFIG_VARIABLE) or "gaia.yaml")


def overlay() -> Path | None:
    """A second file laid over it, if there is one."""
    named = os.environ.get(OVERLAY_VARIABLE)
    return Path(named) if named else None


def environment() -> str | None:
    """The environment meant, if one is."""
    return os.environ.get(ENVIRONMENT_VARIABLE) or None


def data() -> Path:
    """The agent's data directory."""
    return Path(os.environ.get(DATA_VARIABLE) or ".gaia")


def url() -> str:
    """The running agent's address."""
    return os.environ.get(URL_VARIABLE) or "http://127.0.0.1:9877"
