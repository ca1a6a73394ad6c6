"""The JSON Schema says of a file what the loader says, as far as a schema can."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli import main
from agent.platform.schema import schema
from tests.agent.platform.files import ROOT_FILE
from tests.agent.platform.test_load import TEN_LINES

# Mistakes that only the loader can see: in the text, between tables, or in what a value means.
BEYOND_A_SCHEMA = re.compile(
    "duplicate|not YAML|cannot be read|not defined|circle|named twice|depends on itself|shorter than"
    "|no edge|last edge|can never|too little|too much|cannot be had|no multiple|cannot be suspended"
    "|above max|already|no url|must start|there is no internal_url|Flycast|longer than|is not a name"
    "|a place to listen|no reason|no check measures|URL to probe|belong into|PostgreSQL URL|NATS URL"
    "|must be a URL"
    "|the value of|exactly one of|needs either|warning|UTF-8|control character|tags|document begins"
    "|cron expression|never comes|the times count|is not a time|must end after|alertmanager block"
    "|is no host name"
    "|refers to|is not supported|needs .url|nested deeper|merge keys|a key must be|empty; it must"
)


def complaints(value: object, rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    """Why `value` does not fit `rule`; the keywords our schema uses, JSON Schema 2020-12."""
    if "$ref" in rule:
        target: Any = root
        for part in rule["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from complaints(value, target, root)
    if "anyOf" in rule and all(
        any(True for _ in complaints(value, option, root)) for option in rule["anyOf"]
    ):
        yield f"{value!r} fits none"
    if "const" in rule and value != rule["const"]:
        yield f"{value!r} is not {rule['const']!r}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{value!r} is not in {rule['enum']}"
    types: dict[str, tuple[type, ...]] = {
        "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
        "number": (int, float), "boolean": (bool,), "null": (type(None),),
    }  # fmt: skip
    if "type" in rule and (
        not isinstance(value, types[rule["type"]]) or (isinstance(value, bool) and rule["type"] != "boolean")
    ):
        yield f"{value!r} is no {rule['type']}"
        return
    if isinstance(value, str):
        if "pattern" in rule and not re.search(rule["pattern"], value):
            yield f"{value!r} does not match {rule['pattern']}"
        if len(value) < rule.get("minLength", 0):
            yield "too short"
    if isinstance(value, int | float) and value < rule.get("minimum", value):
        yield f"{value} is too small"
    if isinstance(value, list) and "items" in rule:
        for item in value:
            yield from complaints(item, rule["items"], root)
    if isinstance(value, dict):
        yield from table_complaints(value, rule, root)


def table_complaints(value: dict[str, Any], rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    if len(value) < rule.get("minProperties", 0):
        yield "too few keys"
    yield from (f"{key} is missing" for key in rule.get("required", ()) if key not in value)
    for key, item in value.items():
        if key in rule.get("properties", {}):
            yield from complaints(item, rule["properties"][key], root)
        elif rule.get("additionalProperties") is False:
            yield f"{key} is unknown"
        elif isinstance(rule.get("additionalProperties"), dict):
            yield from complaints(item, rule["additionalProperties"], root)


class CoreLoader(yaml.SafeLoader):
    """YAML 1.2 as editors read it: `off` is a word."""


CoreLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(("bool", "merge", "timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), ["t", "f"])


def parsed(text: str) -> object:
    return yaml.load(text, Loader=CoreLoader)


@pytest.mark.parametrize("text", [ROOT_FILE.read_text(), TEN_LINES], ids=["root", "ten lines"])
def test_a_right_file_fits_the_schema(text: str) -> None:
    document = schema()
    assert list(complaints(parsed(text), document, document)) == []


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((Path(__file__).parent / "bad").glob("*.yaml"))
        if not BEYOND_A_SCHEMA.search(path.read_bytes().split(b"\n", 1)[0].decode())
    ],
    ids=lambda path: path.stem,
)
def test_an_editor_sees_the_mistakes_that_a_schema_can_see(path: Path) -> None:
    document = schema()
    assert list(complaints(parsed(path.read_text()), document, document)) != []


def test_it_is_printed_and_every_reference_in_it_leads_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == schema()
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        target: Any = document
        for part in reference.split("/"):
            target = target[part]
        assert isinstance(target, dict)
