"""From overrides to validated configurations, one or a sweep of them.

Hydra's compose API and not ``hydra.main``: the latter instantiates launcher, sweeper and callbacks by import
path from the config, creates the run folder before anything is checked, and exits 1 for a bad override.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fedprofile.config.checks import validate
from fedprofile.config.folder import HYDRA_FOLDER, home
from fedprofile.config.mistakes import check_override, explain
from fedprofile.config.schema import Config
from fedprofile.errors import ConfigError, UsageError
from fedprofile.mlflow_io.store import without_password
from fedprofile.types import canonical

ConfigStore.instance().store(name="fedprofile_schema", node=Config, provider="fedprofile")

# What may change without changing the model: where results go, who runs the nodes.
_IRRELEVANT = {"run": None, "tracking": None, "federation": ("backend", "workers"), "baselines": ("cache",)}
_PLACES = ("data.root", "federation.secrets")


@dataclass(frozen=True)
class Job:
    """One run to be: its config (``run.dir`` absolute), the overrides that made it, Hydra's own node."""

    config: Config
    overrides: tuple[str, ...]
    hydra: DictConfig

    @property
    def folder(self) -> Path:
        """The run folder; absolute."""
        return Path(str(self.config.run.dir))

    def write(self) -> list[Path]:
        """Create the run folder with ``.hydra/{config,overrides,hydra}.yaml``; return the folders it had to make."""
        inner = self.folder / HYDRA_FOLDER
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        save(self.config, self.folder)
        (inner / "overrides.yaml").write_text(yaml.safe_dump(list(self.overrides), allow_unicode=True))
        (inner / "hydra.yaml").write_text(OmegaConf.to_yaml(OmegaConf.masked_copy(self.hydra, "hydra")))
        return made

    def withdraw(self, made: Sequence[Path]) -> bool:
        """Undo ``write`` where the job never wrote anything itself; returns whether it did."""
        if [entry.name for entry in self.folder.iterdir()] != [HYDRA_FOLDER]:
            return False
        shutil.rmtree(self.folder / HYDRA_FOLDER)
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()
        return True


def compose(overrides: Sequence[str] = ()) -> Config:
    """The validated config of one run.

    Raises ConfigError for a misspelt key, an unknown option, a wrong type or a value out of range.
    """
    return single(overrides).config


def single(overrides: Sequence[str] = ()) -> Job:
    """One run from Hydra overrides; raises ConfigError."""
    with _hydra() as loader:
        _check(overrides, loader, multirun=False)
        return _job(hydra_compose("train", list(overrides), return_hydra_config=True), "run")


def sweep(overrides: Sequence[str]) -> list[Job]:
    """Every combination of a sweep (Hydra's basic sweeper), each validated; raises ConfigError.

    Job i gets the folder ``<run.dir>/<hydra.sweep.subdir>``, by default ``<run.dir>/<i>``.
    """
    with _hydra() as loader:
        parsed = _check(overrides, loader, multirun=True)
        fixed = [o.input_line for o in parsed if not o.is_sweep_override()]
        master = hydra_compose("train", fixed, return_hydra_config=True)
        for part in ("sweeper", "launcher"):
            if master.hydra[part]["_target_"].rpartition(".")[2].lower() != f"basic{part}":
                raise ConfigError(f"hydra/{part}", "only Hydra's basic one is used here", f"Drop hydra/{part}.")
        params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
        parsed = [*OverridesParser.create(config_loader=loader).parse_overrides(params), *parsed]
        _refuse_swept_folder([o.key_or_group for o in parsed if o.is_sweep_override()])
        jobs = []
        for number, chosen in enumerate(BasicSweeper.split_arguments(parsed, None)[0]):
            cfg = loader.load_sweep_config(master, list(chosen))
            with open_dict(cfg):
                cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
            jobs.append(_job(cfg, "sweep"))
        if len({job.folder for job in jobs}) < len(jobs):
            raise ConfigError("hydra.sweep.subdir", "gives two jobs one folder", "Use ${hydra.job.num} in it.")
        return jobs


def save(config: Config, run_dir: Path) -> None:
    """Write the config where ``read`` finds it, making the folder if need be."""
    inner = run_dir / HYDRA_FOLDER
    inner.mkdir(parents=True, exist_ok=True)
    (inner / "config.yaml").write_text(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))


def read(run_dir: Path) -> Config:
    """The config of an existing run folder; raises UsageError where there is none, ConfigError where it is invalid."""
    file = run_dir / HYDRA_FOLDER / "config.yaml"
    if not file.is_file():
        raise UsageError(
            f"{run_dir} is no run folder: {HYDRA_FOLDER}/config.yaml is missing", "Name one that train made."
        )
    try:
        config = _typed(OmegaConf.load(file))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise explain(error) from error
    validate(config)
    return config


def overrides(run_dir: Path) -> list[str]:
    """The overrides that made a run folder, without the folder itself; empty where it was made from Python."""
    file = run_dir / HYDRA_FOLDER / "overrides.yaml"
    typed = yaml.safe_load(file.read_text()) if file.is_file() else []
    return [o for o in typed if not o.startswith("run.dir=")]


def resolved(config: Config) -> dict[str, Any]:
    """Plain nested dict with every choice made that the config alone can make; fit to be shown: without a password."""
    plain = asdict(config)
    if config.tracking.uri is not None:
        plain["tracking"]["uri"] = without_password(config.tracking.uri)
    plain["federation"]["members"] = config.members
    return plain


def config_hash(config: Config) -> str:
    """SHA-256 (hex) of the canonical JSON of everything that affects the result."""
    return hashlib.sha256(canonical(_relevant(config))).hexdigest()


def recorded(config: Config) -> dict[str, Any]:
    """What a bundle keeps, by dotted key, to train its like again: all that affects the result, but no place.

    Where tables and keys lie (``data.root``, ``federation.secrets``) is left out and has to be said again.
    """
    found: dict[str, Any] = {}
    for group, values in _relevant(config).items():
        found |= {f"{group}.{key}": v for key, v in values.items()} if isinstance(values, dict) else {group: values}
    return {key: value for key, value in found.items() if key not in _PLACES}


def replayed(record: Mapping[str, Any]) -> list[str]:
    """The overrides that say again what ``recorded`` kept."""
    return [f"{key}={_spelt(value)}" for key, value in record.items()]


def _spelt(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_spelt(item) for item in value)}]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)


def _relevant(config: Config) -> dict[str, Any]:
    plain = resolved(config)
    for section, keys in _IRRELEVANT.items():
        if keys is None:
            del plain[section]
        else:
            plain[section] = {k: v for k, v in plain[section].items() if k not in keys}
    return plain


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    """Hydra on our configs, with its mistakes and OmegaConf's turned into ConfigError; the caller's own is restored."""
    home()
    callers, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_module("fedprofile.configs", job_name="train", version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error
    finally:
        GlobalHydra.instance().hydra = callers


def _check(overrides: Sequence[str], loader: ConfigLoader, *, multirun: bool) -> list[Any]:
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    for override in parsed:
        check_override(override, multirun=multirun)
    return parsed


def _refuse_swept_folder(swept: list[str]) -> None:
    for key in ("run.dir", "hydra.run.dir", "hydra.sweep.dir"):
        if key in swept:
            raise ConfigError(key, "cannot be swept", "Each job gets its own folder inside it.")


def _typed(node: Any) -> Config:
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), node))
    assert isinstance(config, Config)
    return config


def _job(cfg: DictConfig, mode: str) -> Job:
    folder = cfg.hydra.run.dir if mode == "run" else os.path.join(cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir)
    overrides = tuple(cfg.hydra.overrides.task)
    node = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    # A plain container, because merging a typed node would let keys in that the schema does not have.
    config = _typed(OmegaConf.to_container(node, resolve=True))
    config.run.dir = os.path.abspath(os.path.expanduser(folder))
    if config.data.root is not None:
        config.data.root = os.path.abspath(os.path.expanduser(config.data.root))
    validate(config)
    return Job(config, overrides, cfg)
