"""partners/audit.md names every event that a log may hold, and the commands it shows exist."""

from __future__ import annotations

import re
from pathlib import Path

from fedprofile.cli.main import main
from fedprofile.governance import audit_coordinator
from fedprofile.governance.audit import Event

PAGE = (Path(__file__).parents[1] / "partners" / "audit.md").read_text(encoding="utf-8")


def test_every_event_is_explained():
    events = Event.__subclasses__()
    names = {event.NAME for event in events}
    assert len(names) == len(events) == 22
    assert sum(event.__module__ == audit_coordinator.__name__ for event in events) == 10
    assert names <= set(re.findall(r"`([a-z-]+)`", PAGE))


def test_the_commands_it_shows_exist(capsys):
    shown = re.findall(r"^fedprofile (\w+ \w+)", PAGE, re.M)
    assert set(shown) == {"node audit", "audit verify", "audit report"}
    for command in shown:
        assert main([*command.split(), "--help"]) == 0
