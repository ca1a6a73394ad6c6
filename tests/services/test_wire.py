"""What leaves a service process: spans over OTLP/HTTP, and TLS 1.3 inside where it is configured."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.services.running import answers, environment, free_port, process
from tests.waiting import until


async def test_spans_arrive_over_otlp_with_their_resource(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    received: list[ExportTraceServiceRequest] = []

    async def traces(request: web.Request) -> web.Response:
        received.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", traces)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector = f"http://127.0.0.1:{runner.addresses[0][1]}"
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    with process("gateway", environment(OTEL_EXPORTER_OTLP_ENDPOINT=collector)) as gateway:
        await answers(http, f"{gateway.url}/livez")
        async with http.get(f"{gateway.url}/api/v1/assets", headers={"traceparent": parent}) as response:
            assert response.status == 401
        await until(lambda: received, within_s=10)
    await runner.cleanup()
    (group,) = received[0].resource_spans
    resource = {one.key: one.value.string_value for one in group.resource.attributes}
    assert (resource["service.name"], resource["service.namespace"]) == ("gateway", "gaia")
    assert resource["deployment.environment.name"] == "development"
    (span,) = [s for s in group.scope_spans[0].spans if s.trace_id.hex() == "a" * 32]
    assert (span.name, span.kind, span.parent_span_id.hex()) == (
        "GET /api/v1/assets/*",
        Span.SPAN_KIND_SERVER,
        "b" * 16,
    )
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9


async def test_inside_tls_is_1_3_and_verified(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    cert, key = certificate(tmp_path)
    inside = {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key), "TLS_CA_FILE": str(cert)}
    port = free_port()
    trusting = ssl.create_default_context(cafile=str(cert))
    old = ssl.create_default_context(cafile=str(cert))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        process("gateway", environment(**inside), port=port),
        process("gateway", environment(AUTH_URL=f"https://127.0.0.1:{port}", TLS_CA_FILE=str(cert))) as outer,
    ):
        url = f"https://127.0.0.1:{port}/livez"
        async with asyncio.timeout(15):
            while True:
                try:
                    async with http.get(url, ssl=trusting) as response:
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.05)
        refused = None
        try:
            await http.get(url, ssl=old)
        except aiohttp.ClientError as error:
            refused = error
        assert refused is not None
        # The outer gateway reaches the inner one, so it trusts the CA it was given.
        await answers(http, f"{outer.url}/livez")
        async with asyncio.timeout(10):
            # Another process's view: there is no event to wait for.
            while b"connect_failed" in (body := await answers(http, f"{outer.url}/health", status=503)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert b"auth 1 of 1: fail because of auth:status" in body


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gaia")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_path, key_path
