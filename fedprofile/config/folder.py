"""Run folders: where they go, that they are free, and what Hydra's users look for in them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fedprofile.errors import ConfigError, UsageError

HYDRA_FOLDER = ".hydra"


def home() -> Path:
    """Where results go: FEDPROFILE_HOME, or ``outputs`` in the current directory; absolute, may not exist yet."""
    named = os.environ.get("FEDPROFILE_HOME", "outputs")
    if not named:
        raise ConfigError("FEDPROFILE_HOME", "is set but empty", "Unset it, or let it name a directory.")
    return Path(named).expanduser().absolute()


def fresh() -> Path:
    """A run folder named by the time, as configs/train.yaml names it; not created."""
    return home() / f"{datetime.now():%Y-%m-%d}" / f"{datetime.now():%H-%M-%S}"


def refuse_used(run_dir: Path) -> None:
    """Raise UsageError unless the folder is free: absent, empty, or holding nothing but the config of this run."""
    if run_dir.exists() and not run_dir.is_dir():
        raise UsageError(f"run folder {run_dir} is a file", "Name another with run.dir=DIR.")
    if run_dir.is_dir() and any(entry.name != HYDRA_FOLDER for entry in run_dir.iterdir()):
        raise UsageError(
            f"run folder {run_dir} exists and is not empty",
            f"Name another with run.dir=DIR, or continue it with `fedprofile train --resume {run_dir}`.",
        )


@contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Keep an existing run folder to this process until the block ends, however it ends.

    Raises UsageError where another process holds it: two that conduct one run would agree keys against each other.
    """
    with open(run_dir / HYDRA_FOLDER / "lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"the run in {run_dir} is still going on", "Wait for it, or end it first.") from None
        yield
