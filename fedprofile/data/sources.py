"""Where a federation comes from, by name: ``source(root: str | None) -> Federation``, through entry points.

Own sources: an entry point in the group ``fedprofile.sources`` of any installed package.
"""

from __future__ import annotations

import importlib.metadata

from fedprofile.data.federation import Federation
from fedprofile.data.reading import nearest
from fedprofile.errors import ConfigError

GROUP = "fedprofile.sources"


def open_source(name: str, root: str | None) -> Federation:
    """The federation of a registered source; ConfigError for an unknown name, DataError for bad data."""
    found = list(importlib.metadata.entry_points(group=GROUP, name=name))
    if not found:
        names = source_names()
        known = f"Registered: {', '.join(names)}." if names else "None is registered: install fedprofile itself."
        raise ConfigError("data.source", f"no source has the name {name!r}", nearest(name, names) or known)
    if len({entry.value for entry in found}) > 1:
        raise ConfigError("data.source", f"two packages register a source {name!r}", "Uninstall one of them.")
    federation = found[0].load()(root)
    if not isinstance(federation, Federation):
        raise ConfigError("data.source", f"the source {name!r} gave no Federation", "Ask its author to mend it.")
    return federation


def source_names() -> list[str]:
    """The names of all registered sources, sorted."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})
