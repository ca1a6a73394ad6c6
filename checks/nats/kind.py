"""The kind `nats`: how it is written, built and what it measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from checks.catalog import CheckKind, ProbeKit
from checks.nats.measures import MEASURES
from checks.nats.options import NatsOptions
from checks.target import Target, TargetKey

if TYPE_CHECKING:
    from checks.nats.check import NatsCheck
    from checks.nats.sentinel import Doubts, NatsSentinel
    from checks.nats.visit import Entry

# A check and its sentinel are built apart; what the sentinel noticed shortens the look that follows.
# Entries live as long as one of the two does.
_doubts: Final[WeakValueDictionary[tuple[int, TargetKey, NatsOptions], Doubts]] = WeakValueDictionary()


def _shared(target: Target, options: NatsOptions, kit: ProbeKit) -> Doubts:
    key = (id(kit), target.key, options)
    doubts = _doubts.get(key)
    if doubts is None:
        from checks.nats.sentinel import Doubts

        doubts = _doubts[key] = Doubts()
    return doubts


def _entry(options: NatsOptions) -> Entry:
    from checks.nats.credentials import read_credentials
    from checks.nats.visit import Entry

    file = options.credentials_file
    return Entry(
        credentials=read_credentials(file) if file else None,
        context=options.tls_context() if any(place.tls for place in options.places()) else None,
    )


def _build(target: Target, options: NatsOptions, kit: ProbeKit) -> NatsCheck:
    from checks.nats.check import NatsCheck

    return NatsCheck(target, options, kit, entry=_entry(options), doubts=_shared(target, options, kit))


def _sentinel(target: Target, options: NatsOptions, kit: ProbeKit) -> NatsSentinel:
    from checks.nats.sentinel import NatsSentinel

    # Nothing is held towards what may sleep.
    places = options.places() if options.hold else ()
    return NatsSentinel(
        places,
        _entry(options),
        kit,
        heartbeat=options.heartbeat,
        doubts=_shared(target, options, kit),
        listens=options.jetstream,
    )


KIND: Final = CheckKind(
    name="nats",
    options=NatsOptions,
    build=_build,
    measures=MEASURES,
    sentinel=_sentinel,
    needs=("checks.nats.check", "checks.nats.sentinel"),
)
