"""`/probe?target=&module=`: what blackbox_exporter answers, in its names, for allowed targets only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from checks.blackbox_modules import Module, Modules, options_for, parse_modules, place_of
from checks.catalog import ProbeKit, kind
from checks.check import Check
from checks.finding import Finding, Phase, State
from checks.http.check import HttpCheck
from checks.http.options import HttpOptions
from checks.observation import Observation, observe
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.wire.certificate import Certificate
from checks.wire.dial import is_literal

# As blackbox_exporter: without a module's timeout or a scrape's, and how much earlier than the scrape to end.
_LONGEST_S: Final = 120.0
_SCRAPE_MARGIN_S: Final = 0.5
_LEAST_S: Final = 0.01
_GRACE_S: Final = 0.2
_DEFAULT_MODULES: Final = {
    "modules": {
        "http_2xx": {"prober": "http"},
        "http_post_2xx": {"prober": "http", "http": {"method": "POST"}},
        "tcp_connect": {"prober": "tcp"},
    }
}
_DNS_PHASES: Final = {Phase.RESOLVE: "resolve", Phase.CONNECT: "connect", Phase.PROCESSING: "request"}
_HTTP_PHASES: Final = tuple(Phase)
_REGEX: Final = (Reason.BODY_MATCH, Reason.HEADER_MATCH)


class ProbeRefusedError(ValueError):
    """The question cannot be asked; the text is for whoever asked. `status` is the HTTP status that fits."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ProbeEndpoint(Struct, frozen=True, kw_only=True):
    """Probes on demand; `allowed` are globs over `host:port`."""

    kit: ProbeKit
    allowed: tuple[str, ...]
    modules: Modules

    @classmethod
    def of(
        cls,
        kit: ProbeKit,
        *,
        allowed: tuple[str, ...],
        modules: Mapping[str, object],
    ) -> ProbeEndpoint:
        """`modules` in blackbox.yml's format, beside the well-known ones."""
        own = parse_modules({"modules": dict(modules)})
        base = parse_modules(_DEFAULT_MODULES)
        return cls(
            kit=kit,
            allowed=allowed,
            modules=Modules(
                usable={**base.usable, **own.usable},
                problems=own.problems,
            ),
        )

    def allows(self, host: str, port: int) -> bool:
        """Whether `host:port` is one of the allowed targets."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return any(fnmatchcase(place.lower(), pattern.lower()) for pattern in self.allowed)

    async def probe(
        self,
        target: str,
        module: str = "http_2xx",
        *,
        debug: bool = False,
        scrape_timeout_s: float | None = None,
        hostname: str | None = None,
    ) -> str:
        """The exposition of one probe, or with `debug` its story. Raises ProbeRefusedError."""
        chosen = self._module(module)
        if not target:
            raise ProbeRefusedError("Target parameter is missing")
        try:
            host, port = place_of(chosen, target)
            options = options_for(
                chosen, target, timeout_s=_timeout_s(chosen, scrape_timeout_s), hostname=hostname
            )
        except ValueError as error:
            raise ProbeRefusedError(str(error)) from error
        if not self.allows(host, port):
            raise ProbeRefusedError(
                f"{host}:{port} is not among probe_targets of gaia.yaml: add it there to probe it", status=403
            )
        key = TargetKey(env="", service=host, check=chosen.kind, vantage="probe")
        shown = target.partition("?")[0].rpartition("@")[2][:200]
        place = Target(key=key, kind=Kind.SERVICE, address=shown)
        check: Check
        if isinstance(options, HttpOptions):
            check = HttpCheck(place, options, self.kit, allowed=self.allows)
        else:
            check = kind(chosen.kind).build(place, options, self.kit)
        timeout_s = _timeout_s(chosen, scrape_timeout_s)
        try:
            # The check keeps the time itself and then tells its story; this ends one that does not.
            seen = await observe(check, place, deadline_s=timeout_s + _GRACE_S, clock=self.kit.clock)
        finally:
            await check.close()
        shown_tls = (getattr(check, "chain", ()), getattr(check, "trusted", ()))
        text = exposition(seen, chosen.kind, *shown_tls)
        if not debug:
            return text
        understood = "\n".join(_understood(options))
        return (
            f"{_story(seen, chosen)}\nMetrics that would have been returned:\n{text}\n"
            f"Module configuration:\n{understood}\n"
        )

    def _module(self, name: str) -> Module:
        found = self.modules.usable.get(name)
        if found is None:
            problem = self.modules.problems.get(name)
            raise ProbeRefusedError(problem or f'Unknown module "{name[:100]}"')
        return found


def _timeout_s(module: Module, scrape_timeout_s: float | None) -> float:
    """The scrape's timeout less a margin, or the module's when that is shorter."""
    scrape_s = (
        _LONGEST_S
        if scrape_timeout_s is None or scrape_timeout_s <= 0
        else scrape_timeout_s - _SCRAPE_MARGIN_S
    )
    return max(_LEAST_S, min(scrape_s, module.timeout_s or _LONGEST_S))


def exposition(
    seen: Observation, prober: str, chain: tuple[Certificate, ...], trusted: tuple[Certificate, ...]
) -> str:
    """One probe under blackbox_exporter's names; what was not measured has no line."""
    finding = seen.finding
    lines = _Lines()
    success = finding.state in (State.UP, State.DEGRADED)
    phases = {time.phase: time.duration_s for time in finding.phases}
    if Phase.RESOLVE in phases:
        lines.gauge("probe_dns_lookup_time_seconds", phases[Phase.RESOLVE])
    if prober == "http":
        for phase in _HTTP_PHASES:
            if phase in phases:
                lines.gauge("probe_http_duration_seconds", phases[phase], phase=phase.value)
    if prober == "dns":
        for phase, name in _DNS_PHASES.items():
            if phase in phases:
                lines.gauge("probe_dns_duration_seconds", phases[phase], phase=name)
    for measure in finding.measures:
        lines.gauge(measure.name, measure.value, **dict(measure.labels))
    if prober in ("http", "tcp"):
        lines.gauge("probe_failed_due_to_regex", float(finding.reason in _REGEX))
    _chain_lines(lines, chain, trusted)
    ip = next((fact.value for fact in finding.evidence if fact.name == "ip"), None)
    if ip is not None:
        lines.gauge("probe_ip_addr_hash", float(_address_hash(ip)))
    if not success:
        lines.gauge("probe_failure_info", 1.0, reason=finding.reason.value)
    lines.gauge("probe_duration_seconds", seen.duration_s)
    lines.gauge("probe_success", float(success))
    return lines.text()


def _chain_lines(lines: _Lines, chain: tuple[Certificate, ...], trusted: tuple[Certificate, ...]) -> None:
    if not chain:
        return
    if trusted:
        until_s = min(one.not_after_s for one in trusted)
        lines.gauge("probe_ssl_last_chain_expiry_timestamp_seconds", until_s)
    leaf = chain[0]
    lines.gauge(
        "probe_ssl_last_chain_info",
        1.0,
        fingerprint_sha256=leaf.fingerprint_sha256,
        subject=leaf.subject,
        issuer=leaf.issuer,
        # Names only, as blackbox_exporter has it: addresses are left out.
        subjectalternative=",".join(name for name in leaf.names if not is_literal(name)),
        serialnumber=leaf.serial,
    )


def places_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """`host:port` of each shown address that has one: what may be probed when nothing else is said."""
    places: dict[str, None] = {}
    for address in addresses:
        split = urlsplit(address if "://" in address else f"//{address}")
        try:
            port = split.port or {"http": 80, "https": 443}.get(split.scheme)
        except ValueError:
            continue
        if split.hostname and port:
            # What people write in globs means itself in an address.
            host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
            places[_literally(f"{host}:{port}")] = None
    return tuple(places)


def _literally(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


class _Lines:
    """Gauges in the text format, each family's lines together."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def gauge(self, name: str, value: float, **labels: str) -> None:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        series = f"{name}{{{inside}}}" if inside else name
        self._families.setdefault(name, []).append(f"{series} {value!r}".removesuffix(".0"))

    def text(self) -> str:
        blocks = (
            f"# HELP {name} {_HELP.get(name, name)}\n# TYPE {name} gauge\n" + "\n".join(lines)
            for name, lines in sorted(self._families.items())
        )
        return "\n".join(blocks) + "\n"


_HELP: Final = {
    "probe_success": "Displays whether or not the probe was a success",
    "probe_duration_seconds": "Returns how long the probe took to complete in seconds",
    "probe_dns_lookup_time_seconds": "Returns the time taken for probe dns lookup in seconds",
    "probe_http_duration_seconds": "Duration of http request by phase; a phase that did not happen has none",
    "probe_dns_duration_seconds": "Duration of DNS request by phase",
    "probe_failed_due_to_regex": "Indicates if probe failed due to regex",
    "probe_failure_info": "1 when the probe failed; the closed reason is a label",
    "probe_ip_protocol": "Specifies whether probe ip protocol is IP4 or IP6",
    "probe_ip_addr_hash": "Specifies the hash of IP address, to detect that it changed",
    "probe_http_status_code": "Response HTTP status code",
    "probe_http_version": "Returns the version of HTTP of the probe response",
    "probe_http_ssl": "Indicates if SSL was used for the final redirect",
    "probe_http_redirects": "The number of redirects",
    "probe_http_content_length": "Length of http content response",
    "probe_http_uncompressed_body_length": "Length of uncompressed response body",
    "probe_http_last_modified_timestamp_seconds": "Last-Modified HTTP response header in unixtime",
    "probe_ssl_earliest_cert_expiry": "Returns earliest SSL cert expiry in unixtime",
    "probe_ssl_last_chain_expiry_timestamp_seconds": "Returns last SSL chain expiry in timestamp",
    "probe_ssl_last_chain_info": "Contains SSL leaf certificate information",
    "probe_tls_version_info": "Returns the TLS version used",
    "probe_tls_cipher_info": "Returns the TLS cipher negotiated during handshake",
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _address_hash(ip: str) -> int:
    """FNV-1a of 32 bits over the address's bytes, as blackbox_exporter computes it."""
    from ipaddress import ip_address

    value = 0x811C9DC5
    for byte in ip_address(ip.partition("%")[0]).packed:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def _understood(options: Struct) -> Iterator[str]:
    """What the module's options are where they are not our own defaults; secrets and the target covered."""
    # Only asked for by people: not needed to start.
    from agent.platform.settings_shown import shown

    for field in msgspec.structs.fields(options):
        value = getattr(options, field.name)
        if value != field.default and field.encode_name not in ("url", "address", "server", "port"):
            yield f"  {field.encode_name}: {shown(value)}"


def _story(seen: Observation, module: Module) -> str:
    """The probe as a person follows it."""
    finding: Finding = seen.finding
    lines = [f'Logs for the probe with module "{module.name}" ({module.kind}):', f"  {finding.message}"]
    lines += [f"  {time.phase}: {time.duration_s * 1000:.3f} ms" for time in finding.phases]
    lines += [f"  {fact.name}: {fact.value}" for fact in finding.evidence]
    took_ms = seen.duration_s * 1000
    lines.append(f"  {finding.state}/{finding.reason} after {took_ms:.1f} ms: {finding.reason.sentence}")
    return "\n".join(lines) + "\n"
