"""The reference in docs/gaia-yaml.md, from the tables the loader uses: `python -m agent.platform.docs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, get_args

import msgspec
from msgspec import NODEFAULT, inspect

from agent.platform import model
from agent.platform.describe import told
from agent.platform.meanings import MEANINGS
from agent.platform.sections import SECTIONS
from agent.telemetry.options import LISTENS, DestinationOptions, IntakeOptions
from alerts import receiver
from alerts.rule import DEFAULT_POLICIES, Rule, RuleCommon
from alerts.section import AlertsSection
from checks.catalog import kind as check_kind
from checks.catalog import names as check_names
from checks.secret import Secret
from checks.units import Duration, Ratio, Size
from checks.verdict import ConfirmPolicy

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "gaia-yaml.md"
_FILLED_IN: Final = ("name", "vantages", "options")
# Where the tables live whose keys MEANINGS explains.
_EXPLAINED: Final = (model.__name__, ConfirmPolicy.__module__)

# Above it the page is written by hand.
MARK: Final = "<!-- From here on: python -m agent.platform.docs -->\n"


def reference() -> str:
    """What the page says below the mark: every table, every key."""
    parts = ["## The keys\n" + _rows(("key", "what it is"), _sections())]
    for title, wanted in (
        ("environments", model.Environment),
        ("confirm", ConfirmPolicy),
        ("machines", model.Machines),
        ("machines.scale_out", model.ScaleOut),
        ("logging", model.Logging),
        ("retention", model.Retention),
        ("deploy", model.Deploy),
        ("services", model.Service),
        ("resources", model.Resources),
        ("deployed_as", model.DeployedAs),
        ("databases", model.Database),
        ("backups", model.Backups),
        ("brokers", model.Broker),
        ("hosts", model.Host),
        ("checks", model.CheckSpec),
        ("variables", model.Variable),
        ("security", model.Security),
        ("agent", model.Agent),
    ):
        parts.append(f"### {title}\n{_paragraph(wanted)}\n\n{_table(wanted)}")
    parts.append(_alerts())
    parts.append(
        f"### telemetry\n{_paragraph(IntakeOptions)}\n\n{_table(IntakeOptions, leave_out=LISTENS)}\n"
        f"### telemetry.destinations\n{_paragraph(DestinationOptions)}\n\n{_table(DestinationOptions)}"
    )
    parts.append("## Kinds of check\n")
    for name in check_names():
        options = check_kind(name).options
        parts.append(f"### kind: {name}\n{_paragraph(options)}\n\n{_table(options)}")
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, ...]]:
    return ((f"`{key}`", line) for key, line in SECTIONS.items())


def _alerts() -> str:
    parts = [
        "### alerts\n" + _paragraph(AlertsSection) + "\n\n" + _table(AlertsSection),
        "The policies there are without any of your own, under which yours are laid by name:\n",
        _rows(
            ("policy", "rules"),
            ((f"`{name}`", ", ".join(f"`{rule}`" for rule in rules) or "none: judges silently")
             for name, rules in DEFAULT_POLICIES.items()),
        ),
        f"### alerts.rules\n{_paragraph(RuleCommon)}\n\n{_table(RuleCommon)}",
    ]  # fmt: skip
    common = set(RuleCommon.__struct_encode_fields__)
    for rule in get_args(Rule):
        tag = rule.__struct_config__.tag
        parts.append(f"#### signal: {tag}\n{_paragraph(rule)}\n\n{_table(rule, leave_out=common)}")
    tables: tuple[tuple[str, type[msgspec.Struct]], ...] = (
        ("receivers", receiver.Receiver),
        ("webhook", receiver.Webhook),
        ("pagerduty", receiver.Pagerduty),
        ("opsgenie", receiver.Opsgenie),
        ("slack", receiver.Slack),
        ("alertmanager", receiver.Alertmanager),
        ("smtp", receiver.Smtp),
        ("console", receiver.Console),
        ("dead_man", receiver.DeadMan),
        ("escalation", receiver.EscalationStep),
        ("maintenance", receiver.MaintenanceWindow),
        ("report", receiver.ReportSchedule),
    )
    parts += [f"### alerts: {title}\n{_paragraph(wanted)}\n\n{_table(wanted)}" for title, wanted in tables]
    return "\n".join(parts)


def _paragraph(wanted: type) -> str:
    return "\n".join(line.strip() for line in (wanted.__doc__ or "").strip().splitlines())


def _table(wanted: type[msgspec.Struct], *, leave_out: Iterable[str] = ()) -> str:
    struct = inspect.type_info(wanted)
    assert isinstance(struct, inspect.StructType)
    meanings = MEANINGS.get(wanted.__name__, {}) if wanted.__module__ in _EXPLAINED else {}
    hidden = {*leave_out, *(_FILLED_IN if wanted.__module__ == model.__name__ else ())}
    rows = []
    for field in struct.fields:
        if field.encode_name in hidden:
            continue
        row = [f"`{field.encode_name}`", _cell(told(field.type)), _cell(_default(field))]
        rows.append((*row, _cell(meanings.get(field.encode_name, ""))) if meanings else tuple(row))
        if field.encode_name == "resources":
            rows.append(("`http`", "a table of keys", "", meanings["http"]))
    if not rows:
        return "No keys of its own.\n"
    return _rows(("key", "value", "default", "meaning") if meanings else ("key", "value", "default"), rows)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "" if field.encode_name in {"alias", "interval", "timeout"} else "**required**"
    value = field.default if field.default is not NODEFAULT else None
    if value is None and field.default_factory is not NODEFAULT:
        return ""
    return _shown(value)


def _shown(value: object) -> str:
    if value is None or isinstance(value, msgspec.UnsetType | msgspec.Struct | Secret):
        return ""
    if isinstance(value, Duration | Size | Ratio):
        return f"`{value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        if any(isinstance(item, msgspec.Struct) for item in value):
            return ""
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{value}`" if value not in ("", {}) else ""


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def _rows(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    by_hand = PAGE.read_text("utf-8").split(MARK)[0]
    PAGE.write_text(by_hand + MARK + reference(), "utf-8")
