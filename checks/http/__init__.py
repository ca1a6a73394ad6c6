"""The `http` check."""

from __future__ import annotations

from checks.catalog import CheckKind, ProbeKit
from checks.http.check import HttpCheck
from checks.http.measures import HTTP_MEASURES
from checks.http.options import HttpOptions
from checks.http.sentinel import HttpSentinel, can_hold
from checks.target import Target
from checks.wire.measures import IP_MEASURES, TLS_MEASURES


def _build(target: Target, options: HttpOptions, kit: ProbeKit) -> HttpCheck:
    return HttpCheck(target, options, kit)


def _sentinel(target: Target, options: HttpOptions, kit: ProbeKit) -> HttpSentinel | None:
    return HttpSentinel(target, options, kit) if can_hold(options) else None


KIND = CheckKind(
    name="http",
    options=HttpOptions,
    build=_build,
    measures=(*HTTP_MEASURES, *IP_MEASURES, *TLS_MEASURES),
    sentinel=_sentinel,
    taskless=True,
)
