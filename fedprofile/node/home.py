"""A node's home: the only place where a party's secrets, journal and private state lie.

::

    node.json            who this node is (no secret)
    secret.key           32 bytes, 0600, or the same encrypted: every other secret of the node is derived from it
    table.parquet        the private table (a simulated node; a deployed one reads its own source)
    spine.safetensors    own rows, slots, enough views, only where alignment is simulated
    journal.jsonl        what was sent and refused, written before it happens
    consent.jsonl        the consent ledger, and its head in consent.head
    audit.jsonl          the audit log: what was used, what left; its head in audit.head
    trained/             with whom each run was trained, by pseudonym
    encoders/            what was kept of the last three finished runs (fedprofile.node.encoders)
    run/                 state of the current run, its alignment first, committed once a round
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import UsageError
from fedprofile.files import replace_private, sync
from fedprofile.node.secret import FILE as SECRET
from fedprofile.node.secret import encode_secret, read_secret

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class NodeConfig:
    """node.json: public facts about a node.

    ``secrets`` is "simulated" or "own"; ``keys`` is the folder of secret.key and journal.jsonl where it is not the
    home itself, so that keys and journal outlive a run. ``profile``, ``align`` and ``kem`` are this node's own choices:
    the coordinator can neither switch masking off, nor have ids compared in another way, nor leave ML-KEM out.
    ``consent`` is "simulated" or "ledger"; a live consent has to cover all of ``data_classes``, what the table holds.
    ``approve``: "auto", or "ask" where people have to approve each run's plan.
    """

    party: str
    role: str
    label_owner: str
    secrets: str
    consent: str
    categorical: tuple[str, ...] = ()
    keys: str = ""
    profile: str = "strict"
    align: str = "psi"
    kem: str = "x25519"
    data_classes: tuple[str, ...] = ()
    approve: str = "auto"


class NodeHome:
    """Paths, the lock, derived secrets, and atomic files."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            raw = json.loads((self.path / "node.json").read_text())
        except FileNotFoundError:
            raise UsageError(f"{self.path} is no node home", "Create one, or check the path.") from None
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        self.config = NodeConfig(**fields)

    def configure(self, **changes: Any) -> None:
        """Change public facts, in node.json as well."""
        self.config = replace(self.config, **changes)
        temporary = self.path / "node.json.new"
        temporary.write_text(json.dumps(asdict(self.config), indent=1))
        temporary.replace(self.path / "node.json")

    @staticmethod
    def create(
        path: Path, config: NodeConfig, secret: bytes | None = None, passphrase: bytes | None = None
    ) -> NodeHome:
        """Make a home; ``secret`` (32 bytes) only in simulation, otherwise drawn from the system and, with a
        ``passphrase``, encrypted under it."""
        path.mkdir(parents=True, exist_ok=True)
        (path / "node.json").write_text(json.dumps(asdict(config), indent=1))
        home = NodeHome(path)
        if secret is None:
            home._root = own_secret(home.keys, passphrase)
        else:
            replace_private(home.keys / SECRET, secret)
        return home

    @property
    def keys(self) -> Path:
        return Path(self.config.keys) if self.config.keys else self.path

    def derive(self, purpose: str, *context: bytes) -> bytes:
        """32 bytes for one purpose: HMAC-SHA256 under the node's root secret."""
        message = b"".join(len(p).to_bytes(4, "big") + p for p in (purpose.encode(), *context))
        return hmac.digest(self._root, message, hashlib.sha256)

    @cached_property
    def _root(self) -> bytes:
        return read_secret(self.keys / SECRET)

    def write_key_file(self, path: Path, data: bytes) -> None:
        """Durably replace a file that outlives runs, readable by this user only."""
        replace_private(path, data)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclusive across processes: two holders of one home would use one mask twice."""
        with open(self.keys / "lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    # -- files of the current run ------------------------------------------------------------------
    @property
    def run(self) -> Path:
        return self.path / "run"

    def write(self, name: str, data: bytes) -> None:
        """Atomically replace a file of the current run, readable by this user only."""
        self.run.mkdir(exist_ok=True, mode=0o700)
        _write_private(self.run / name, data)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.run / name).read_bytes()
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        return (self.run / name).exists()

    def clear_run(self) -> None:
        """Forget the last run's state; keys and journal stay."""
        for file in self.run.glob("*"):
            file.unlink()

    def rename(self, old: str, new: str) -> None:
        (self.run / old).replace(self.run / new)
        sync(self.run)

    def remove(self, name: str) -> None:
        (self.run / name).unlink(missing_ok=True)

    def write_arrays(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        from safetensors.numpy import save

        self.write(name, save({k: np.asarray(v, order="C") for k, v in arrays.items()}))

    def read_arrays(self, name: str) -> Arrays | None:
        from safetensors.numpy import load

        data = self.read(name)
        return None if data is None else load(data)


def own_secret(folder: Path, passphrase: bytes | None = None) -> bytes:
    """The 32 bytes of a key folder, drawn from the system the first time it is asked for."""
    file = folder / SECRET
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = os.urandom(32)
        replace_private(file, encode_secret(secret, passphrase))
        return secret
    return read_secret(file)


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())  # before the journal says that it was sent
    temporary.replace(path)
