"""`/probe` over a real server, against a real one."""

from __future__ import annotations

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from agent.probe_endpoint import ProbeEndpoint
from agent.probe_route import probe_route
from agent.web.server import WebOptions, serving
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.resolver import CachingResolver
from tests.agent.web.platform import small


async def test_an_allowed_target_is_probed_and_any_other_is_refused() -> None:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    async with serving(small(), WebOptions(port=0)) as seen:
        endpoint = ProbeEndpoint.of(kit, allowed=(f"127.0.0.1:{seen}",), modules={})
        more = (probe_route(lambda: endpoint),)
        async with (
            serving(small(), WebOptions(port=0), more=more) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            async with client.get("/probe", params={"target": f"http://127.0.0.1:{seen}/livez"}) as response:
                text = await response.text()
            assert response.status == 200
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            assert (values["probe_success"], values["probe_http_status_code"]) == (1, 200)
            for params, status in (
                ({"target": "http://127.0.0.1:1/"}, 403),
                ({"target": ""}, 400),
                ({"target": f"http://127.0.0.1:{seen}/", "module": "none"}, 400),
            ):
                async with client.get("/probe", params=params) as refused:
                    assert refused.status == status
            async with client.get("/api/v1/openapi.json") as description:
                assert "/probe" in (await description.json())["paths"]
