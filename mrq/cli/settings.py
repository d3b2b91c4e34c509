"""`mrq config`: every setting with its value and where that comes from."""

from __future__ import annotations

from typing import Any

from mrq.cli import errors, units
from mrq.cli.clusters import is_local, profile_for
from mrq.cli.console import Console, print_json
from mrq.cli.flags import Parsed
from mrq.cli.signals import Signals
from mrq.cli.submit import Told
from mrq.cli.tables import Page
from mrq.errors import UsageError


def config(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """Print the settings. Raises UsageError for what is wrong in them."""
    if parsed.words:
        raise UsageError(f"mrq config takes no words, not {parsed.words[0]!r}; --cluster names a profile")
    profile = profile_for(parsed)
    if not is_local(parsed):
        told.engine, told.cluster = "cluster", profile.name
    rows = profile.show()
    if "json" in parsed.switches:
        from mrq.cli.objects import Setting, Settings, head

        settings = {row.name: Setting(value=row.value, source=row.source) for row in rows}
        told.notes = profile.notes
        print_json(Settings(**head(told, "shown"), settings=settings))
        return errors.DONE
    page = Page()
    page.line(
        "jobs run on this machine; the settings of a cluster, were one named, would be"
        if told.cluster is None
        else f"jobs run on cluster {profile.name}"
    )
    page.line()
    page.table(
        ("SETTING", "VALUE", "FROM"), [(row.name, _text(row.name, row.value), row.source) for row in rows]
    )
    page.write()
    for note in profile.notes:
        console.line(f"note: {note}")
    return errors.DONE


def _text(name: str, value: Any) -> str:
    """A value as people write it."""
    if value is None or value in ({}, [], ""):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{here} = {there}" for here, there in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("_s"):
        return _span(value)
    if name in ("blob_bytes_max", "disk_quota"):
        return units.size(value)
    return str(value)


def _span(seconds: float) -> str:
    """As it may be typed: `7d`, `90s`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0 and seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"
