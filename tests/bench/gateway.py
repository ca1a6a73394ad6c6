"""The gateway beside a bare aiohttp proxy and nginx: processor time, requests a core, latency added."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from services.instrumentation.context import Identity
from services.instrumentation.tokens import SigningKey, jwks
from tests.services.raw_load import Connection, cpu_per_request_s, latencies_s, request_bytes
from tests.services.running import environment, free_port

_ROUNDS = 5
_REQUESTS = 2000
_SERIAL = 1500
_PATH = "/api/v1/assets"
_BODY = json.dumps({"assets": [{"id": "1", "name": "a"}] * 8}).encode()


def serve(kind: str, port: int, upstream: int, keys: str) -> None:
    """The upstream, or a bare proxy before it, in this process."""
    asyncio.run(_serve(kind, port, upstream, keys))


async def _serve(kind: str, port: int, upstream: int, keys: str) -> None:
    app = web.Application()
    if kind == "proxy":
        session = aiohttp.ClientSession(auto_decompress=False)

        async def forward(request: web.Request) -> web.Response:
            url = f"http://127.0.0.1:{upstream}{request.raw_path}"
            async with session.request(request.method, url, headers=request.headers) as response:
                return web.Response(body=await response.read(), status=response.status)

        app.router.add_route("*", "/{path:.*}", forward)
    else:

        async def answer(request: web.Request) -> web.Response:
            if request.path.endswith("jwks.json"):
                return web.Response(text=keys)
            healthy = request.path in {"/readyz", "/health"}
            return web.Response(body=b'{"status":"pass"}' if healthy else _BODY)

        app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main() -> None:
    """Prints each way to the same upstream; the upstream is nginx where installed."""
    key = SigningKey.generate("bench")
    keys = json.dumps(jwks([key]))
    token = key.sign(
        Identity("user", "ada"), issuer="gaia-auth-dev", audience="gaia", lifetime_s=3600, token_id="t"
    )
    request = request_bytes(_PATH, {"Authorization": f"Bearer {token}"})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gaia-bench-")))
        upstream, proxy, gateway, nginx = (free_port() for _ in range(4))
        has_nginx = shutil.which("nginx") is not None
        ways: dict[str, tuple[int, list[int]]] = {}
        if has_nginx:
            pids = _nginx(stack, folder, "upstream", _upstream_config(upstream, keys))
        else:
            print("nginx is not installed: its row is missing, and the upstream is aiohttp")
            pids = [_python(stack, "upstream", upstream, 0, keys)]
        ways["direct"] = (upstream, pids)
        ways["bare aiohttp proxy"] = (proxy, [_python(stack, "proxy", proxy, upstream, "")])
        ways["gateway"] = (gateway, [_gateway(stack, gateway, upstream)])
        if has_nginx:
            ways["nginx proxy"] = (nginx, _nginx(stack, folder, "proxy", _proxy_config(nginx, upstream)))
        for port, _ in ways.values():
            _wait(port, request)
        _report(ways, request)


def _report(ways: dict[str, tuple[int, list[int]]], request: bytes) -> None:
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    serial: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, (port, pids) in ways.items():
            cpu[name].append(cpu_per_request_s(port, pids, request, count=_REQUESTS))
            serial[name] += latencies_s(port, request, count=_SERIAL // _ROUNDS)
    base = statistics.median(serial["direct"])
    for name, (_, pids) in ways.items():
        taken = sorted(serial[name])
        median, p99 = statistics.median(taken), taken[int(len(taken) * 0.99)]
        spent = statistics.median(cpu[name])
        rss = sum(psutil.Process(pid).memory_info().rss for pid in pids) / 2**20
        added = "" if name == "direct" else f"   adds {1e6 * (median - base):5.0f} us"
        print(
            f"{name:<20} {1e6 * spent:6.0f} us CPU/request = {1 / spent:7,.0f} requests/s/core   "
            f"latency p50 {1e6 * median:5.0f} us, p99 {1e6 * p99:6.0f} us{added}   {rss:5.1f} MiB"
        )


def _python(stack: ExitStack, kind: str, port: int, upstream: int, keys: str) -> int:
    script = f"from tests.bench.gateway import serve; serve({kind!r}, {port}, {upstream}, {keys!r})"
    return _child(stack, [sys.executable, "-c", script], dict(os.environ))


def _gateway(stack: ExitStack, port: int, upstream: int) -> int:
    url = f"http://127.0.0.1:{upstream}"
    environ = environment(
        PORT=str(port), AUTH_URL=url, ASSET_URL=url, CHAT_URL=url, RATE_LIMIT="1000000/s",
        LOG_LEVEL="WARNING", OTEL_TRACES_SAMPLER_ARG="0.1",
    )  # fmt: skip
    environ["PATH"] = os.environ["PATH"]
    return _child(stack, [sys.executable, "-m", "services.gateway"], environ)


def _child(stack: ExitStack, command: list[str], environ: dict[str, str]) -> int:
    child = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    stack.callback(child.wait)
    stack.callback(child.kill)
    return child.pid


def _nginx(stack: ExitStack, folder: Path, name: str, http: str) -> list[int]:
    config = folder / f"{name}.conf"
    config.write_text(
        f"daemon off; worker_processes 1; error_log /dev/null; pid {folder}/{name}.pid; user root;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log {folder}/{name}.log; keepalive_requests 1000000; "
        f"client_body_temp_path {folder}/{name}-b; proxy_temp_path {folder}/{name}-p; "
        f"fastcgi_temp_path {folder}/{name}-f; "
        f"uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;\n"
        f"{http} }}\n"
    )
    child = subprocess.Popen(["nginx", "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    stack.callback(child.wait)
    stack.callback(child.terminate)
    end = time.monotonic() + 10
    while not (workers := psutil.Process(child.pid).children()):
        if time.monotonic() > end:
            raise AssertionError("nginx started no worker")
    return [workers[0].pid]


def _upstream_config(port: int, keys: str) -> str:
    well = '{"status":"pass"}'
    return (
        f"server {{ listen 127.0.0.1:{port} backlog=1024; default_type application/json;\n"
        f"location = /readyz {{ return 200 '{well}'; }} location = /health {{ return 200 '{well}'; }}\n"
        f"location ~ jwks {{ return 200 '{keys}'; }} location / {{ return 200 '{_BODY.decode()}'; }} }}"
    )


def _proxy_config(port: int, upstream: int) -> str:
    return (
        f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1; "
        'proxy_set_header Connection ""; } }'
    )


def _wait(port: int, request: bytes) -> None:
    """Until the way to the upstream is open (the gateway has the keys)."""
    end = time.monotonic() + 20
    while True:
        try:
            connection = Connection(port)
            connection.send(request)
            connection.receive()
            connection.close()
        except (OSError, AssertionError):
            if time.monotonic() > end:
                raise
        else:
            return
