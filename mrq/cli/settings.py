"""`mrq config`: every setting with its value and where that comes from."""

from __future__ import annotations

import logging
from typing import Any

from mrq.cli import failure_text, objects, units
from mrq.cli.session import Session
from mrq.cli.tables import TextPage
from mrq.settings.cluster import KEYS
from mrq.settings.job import SETTINGS
from mrq.settings.table import ValueKind


def config(session: Session) -> int:
    """Print the settings. Raises UsageError for what is wrong in them."""
    profile = session.profile()
    if not session.is_local():
        session.engine, session.cluster = "cluster", profile.name
    rows = profile.show()
    if session.json:
        settings = {name: objects.ConfigValue(value=value, source=at) for name, (value, at) in rows.items()}
        session.notes = profile.notes
        session.answer(objects.Config, "shown", settings=settings)
        return failure_text.DONE
    page = TextPage()
    page.line(
        "jobs run on this machine; the settings of a cluster, were one named, would be"
        if session.cluster is None
        else f"jobs run on cluster {profile.name}"
    )
    page.line()
    shown = [(name, _text(name, value), source) for name, (value, source) in rows.items()]
    page.table(("SETTING", "VALUE", "FROM"), shown)
    page.write()
    for note in profile.notes:
        logging.getLogger("mrq.notes").info(note)
    return failure_text.DONE


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
    row = KEYS.get(name) or SETTINGS.get(name)
    if row is not None and row.kind is ValueKind.TIME:
        return _span(value)
    if row is not None and row.kind is ValueKind.SIZE:
        return units.size(value)
    return str(value)


def _span(seconds: float) -> str:
    """As it may be typed: `7d`, `90s`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0 and seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"
