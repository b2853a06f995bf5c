"""A registry's home: what it is called, where its log lies, its copies of bundles and reports.

``registry.json`` pins the root's public key; everything else is checked against it. Whoever can write this file can
make the machine follow another registry: keep it as you keep the program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedprofile.errors import DataError, UsageError
from fedprofile.files import replace_private
from fedprofile.governance.chain import SIGNED_HEAD
from fedprofile.governance.heads import FileHeads, HeadStore
from fedprofile.governance.people import FILE, ROOT, People, Role, nobody
from fedprofile.governance.promotion import DECIDERS, State, replay, step
from fedprofile.registry.shelf import Shelf
from fedprofile.registry.sql_heads import SqlHeads, check_store
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical

CONFIG = "registry.json"
LOG_FILE = "promotion.jsonl"
IN_FILE = "file"
Facts = Callable[[State], Mapping[str, Any]]


def seconds() -> int:
    return int(time.time())


@dataclass(frozen=True)
class Registry:
    """``store``: ``file``, or the URL of a database that several machines share. ``tracking``: MLflow's, or None."""

    path: Path
    root_pk: bytes
    store: str = field(repr=False)
    model: str
    tracking: str | None = field(repr=False)
    clock: Callable[[], int] = field(default_factory=lambda: seconds, compare=False)

    @cached_property
    def heads(self) -> HeadStore:
        if self.store == IN_FILE:
            return FileHeads(self.path / LOG_FILE)
        return SqlHeads(self.store, self.root_pk.hex())

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.path)

    def state(self) -> State:
        """The log, every line of it checked. Raises DataError naming the line."""
        return replay(self.heads.lines(), self.root_pk)

    def write(self, event: str, by: str, identity: Identity, facts: Facts) -> State:
        """One line more, or Refused: ``facts`` says from the state what the record holds, again after a lost race.

        The state that is returned is the one that this line made.
        """
        while True:
            before = self.state()
            self.check(before, by, identity, event)
            record = {**facts(before), "event": event, "by": by, "at": self.clock()}
            after = step(before, record)
            head = self.heads.swap(before.head, record, lambda mark: identity.sign(SIGNED_HEAD, mark))
            if head is not None:
                break
        if event == "people":
            replace_private(self.path / FILE, canonical(record["people"]) + b"\n")
        return replace(after, head=head)

    def check(self, state: State, by: str, identity: Identity, event: str) -> None:
        """Raises UsageError unless ``by`` may write ``event`` now and ``identity`` is the key registered for them."""
        self.check_role(state, by, identity, () if by == ROOT else DECIDERS[event])

    def check_role(self, state: State, by: str, identity: Identity, roles: tuple[Role, ...]) -> None:
        """The same for one of ``roles``, which the root has no need of."""
        expected = self.root_pk if by == ROOT else state.staff.allow(by, roles, self.clock()).sign_pk
        if identity.sign_pk != expected:
            raise UsageError(f"this is not the key of {by!r}", "Give the key file whose public key was registered.")


def create(
    path: Path, root: Identity, store: str, model: str, tracking: str | None, clock: Callable[[], int] | None = None
) -> Registry:
    """A new registry whose log begins with nobody. Raises UsageError where the folder is in use."""
    check_store(store)
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty", "Name a new folder.")
    path.mkdir(parents=True, exist_ok=True)
    registry = Registry(path, root.sign_pk, store, model, tracking, clock or seconds)
    if isinstance(registry.heads, SqlHeads):
        registry.heads.create()
    first = nobody(root)
    registry.write("people", ROOT, root, lambda _: {"people": first.to_json()})
    _keep(registry)
    return registry


def join(path: Path, root_pk: bytes, store: str, model: str, tracking: str | None) -> Registry:
    """This machine's home of a registry that a shared database holds already. Raises UsageError, DataError."""
    if check_store(store) == IN_FILE:
        raise UsageError("only a registry in a database can be joined", "Give its --store.")
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty", "Name a new folder.")
    registry = Registry(path, root_pk, store, model, tracking)
    registry.state()
    path.mkdir(parents=True, exist_ok=True)
    _keep(registry)
    return registry


def load(path: Path) -> Registry:
    """Raises UsageError where there is no registry, DataError for a damaged file."""
    try:
        raw = json.loads((path / CONFIG).read_bytes())
        if raw["format"] != 1:
            raise DataError(CONFIG, f"format {raw['format']!r} is not known here", "Use a fitting fedprofile version.")
        return Registry(path, bytes.fromhex(raw["root"]), str(raw["store"]), str(raw["model"]), raw["tracking"])
    except FileNotFoundError:
        raise UsageError(
            f"no registry is in {path}", "Make one with `fedprofile registry init`, or give --home."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataError(CONFIG, "not a registry's file", "Restore it from the backup.") from None


def people_file(path: Path) -> People | None:
    """``people.json`` as it lies there: a copy for people to read, which no decision uses."""
    try:
        return People.from_json(json.loads((path / FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(FILE, "not JSON", "Any `people` verb writes it again.") from None


def _keep(registry: Registry) -> None:
    """Private: the URL of a store may hold a password."""
    facts = {"format": 1, "root": registry.root_pk.hex(), "store": registry.store, "model": registry.model}
    replace_private(registry.path / CONFIG, canonical({**facts, "tracking": registry.tracking}) + b"\n")
