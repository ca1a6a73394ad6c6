"""Pairs of limits over one quantity, and whose defaults hold in which environment."""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import UNSET

from checks.units import Duration, Ratio, Size

Profile = Literal["auto", "development", "staging", "production"]
_ALIASES: Final = {"dev": "development", "stg": "staging"}
_PROFILES: Final = ("development", "staging", "production")
_T = TypeVar("_T", bound=msgspec.Struct)


class Limit(Protocol):
    """A pair of limits over one quantity."""

    @property
    def warn(self) -> float | None: ...
    @property
    def critical(self) -> float | None: ...


class DurationLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time above which a signal is worth a warning, and one above which it is critical."""

    warn: Duration | None = None
    critical: Duration | None = None


class RatioLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share above which a signal is worth a warning, and one above which it is critical."""

    warn: Ratio | None = None
    critical: Ratio | None = None


class SizeLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A size above which a signal is worth a warning, and one above which it is critical."""

    warn: Size | None = None
    critical: Size | None = None


class CountLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number above which a signal is worth a warning, and one above which it is critical."""

    warn: float | None = None
    critical: float | None = None


def seconds(warn: float | None, critical: float | None) -> DurationLimit:
    return DurationLimit(
        warn=None if warn is None else Duration(warn),
        critical=None if critical is None else Duration(critical),
    )


def shares(warn: float | None, critical: float | None) -> RatioLimit:
    return RatioLimit(
        warn=None if warn is None else Ratio(warn), critical=None if critical is None else Ratio(critical)
    )


def sizes(warn: int | None, critical: int | None) -> SizeLimit:
    return SizeLimit(
        warn=None if warn is None else Size(warn), critical=None if critical is None else Size(critical)
    )


def profile_of(environment: str, profile: Profile) -> str:
    """The profile an environment goes by: the one written, else its own name, else production's."""
    if profile != "auto":
        return profile
    name = _ALIASES.get(environment, environment)
    return name if name in _PROFILES else "production"


def over_defaults(written: _T, defaults: _T) -> _T:
    """Every limit decided: those written over the defaults. No field of the result is UNSET."""
    values = {
        name: own if (own := getattr(written, name)) is not UNSET else default
        for name, default in msgspec.structs.asdict(defaults).items()
    }
    return type(written)(**values)


def chosen(limit: object) -> Limit | None:
    """A limit of a Thresholds that `over_defaults` made, where nothing is UNSET any more."""
    return limit if hasattr(limit, "critical") else None  # type: ignore[return-value]  # It has both halves.


def counts(warn: float | None, critical: float | None) -> CountLimit:
    return CountLimit(warn=warn, critical=critical)
