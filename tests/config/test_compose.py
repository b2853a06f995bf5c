"""YAML and overrides become the config they promise; mistakes are named before any work."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import fedprofile.configs
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from fedprofile.config import compose
from fedprofile.config.mistakes import GROUPS, KEYS, values_of
from fedprofile.config.schema import Config
from fedprofile.errors import ConfigError, UsageError

CONFIGS = Path(fedprofile.configs.__file__).parent
# what a gate asks is no part of a training's configuration
FILES = [file for file in CONFIGS.glob("*/*.yaml") if file.parent.name not in ("promotion", "watch")]
OPTIONS = sorted(str(file.relative_to(CONFIGS).with_suffix("")) for file in FILES)
EXPERIMENTS = {
    "quick": {"learning.rounds": 1, "learning.steps": 5, "baselines.enabled": False, "tracking.enabled": False},
    "members4": {"data.source": "k401", "federation.members": 4, "learning.trees": "never"},
    "overlap40": {"federation.overlap": 0.4},
}


def as_set(config: Config) -> dict[str, object]:
    return {key: value for key, value in values_of(config) if key != "run.dir"}


def test_the_defaults_of_yaml_and_schema_are_the_same():
    assert as_set(compose.compose()) == as_set(Config())


@pytest.mark.parametrize("overrides", [[], ["experiment=quick"], ["experiment=members4", "privacy.label_eps=null"]])
def test_what_a_bundle_records_says_the_same_again_and_names_no_place(overrides, tmp_path):
    places = [f"data.root={tmp_path}", f"federation.secrets={tmp_path}"]
    config = compose.compose([*overrides, "data=folder", *places])
    record = compose.recorded(config)
    assert str(tmp_path) not in str(record)
    again = compose.compose([*compose.replayed(record), *places])
    assert compose.config_hash(again) == compose.config_hash(config)
    assert compose.recorded(again) == record


def test_every_group_has_options():
    assert {option.split("/")[0] for option in OPTIONS} == set(GROUPS)


@pytest.mark.parametrize("nth", range(4))
def test_every_option_composes(nth):
    """The first options of all groups together, then the second ones, and so on: a group shows only in its section."""
    groups = {group: [o.split("/")[1] for o in OPTIONS if o.startswith(group + "/")] for group in GROUPS}
    assert max(map(len, groups.values())) == 4
    chosen = {group: names[min(nth, len(names) - 1)] for group, names in groups.items() if group != "experiment"}
    needs = ["data.root=somewhere"] if chosen["data"] == "folder" else []
    needs += ["secure.accept_differencing=true"] if chosen["secure"] == "resilient" else []
    job = compose.single([*(f"{group}={name}" for group, name in chosen.items()), *needs])
    assert chosen.items() <= dict(job.hydra.hydra.runtime.choices).items()
    assert job.config.data.source == chosen["data"]


@pytest.mark.parametrize("file", ["train", *OPTIONS])
def test_every_key_has_a_comment(file):
    lines = (CONFIGS / f"{file}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    body = lines[lines.index("seed: 0") - 1 :] if file == "train" else lines
    for before, line in zip(["", *body], body, strict=False):
        if re.match(r" *\w+: \S", line):
            assert "  # " in line or before.lstrip().startswith("# "), line


def test_every_experiment_is_in_the_table():
    assert {option.split("/")[1] for option in OPTIONS if option.startswith("experiment/")} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_changes_what_it_says_and_yields_to_the_command_line(name):
    plain, changed = as_set(Config()), as_set(compose.compose([f"experiment={name}"]))
    assert EXPERIMENTS[name].items() <= changed.items()
    assert all(plain[key] != value for key, value in EXPERIMENTS[name].items())
    key = next(iter(EXPERIMENTS[name]))
    if key == "data.source":
        assert compose.compose([f"experiment={name}", "data=nhanes"]).data.source == "nhanes"
    else:
        value = "1" if key == "federation.overlap" else "7"
        assert as_set(compose.compose([f"experiment={name}", f"{key}={value}"]))[key] == float(value)


MISTAKES = [
    ("learning.ruonds=3", "learning.ruonds", "learning.rounds"),
    ("+data.foo=1", "data.foo", "data.root"),
    ("++learning.ruonds=3", "learning.ruonds", "learning.rounds"),
    ("eps=2", "eps", "privacy.label_eps"),
    ("learnin=x", "learnin", "learning"),
    ("run.dri=x", "run.dri", "run.dir"),
    ("hydra.foo=1", "hydra.foo", "--cfg hydra"),
    ("data=nhane", "data", "nhanes"),
    ("experiment=quik", "experiment", "quick"),
    ("align=pis", "align", "psi"),
    ("+experiment=quick", "experiment", "Drop the +"),
    ("~data.root", "data.root", "cannot be deleted"),
    ("learning=null", "learning", "name of an option"),
    ("learning.rounds=abc", "learning.rounds", "an integer or null, got 'abc'"),
    ("seed=1.5", "seed", "an integer, got '1.5'"),
    ("seed=null", "seed", "an integer"),
    ("tracking.enabled=perhaps", "tracking.enabled", "true or false"),
    ("learning.rounds=true", "learning.rounds", "an integer or null"),
    ("fusion.parts=[tree]", "fusion.parts", "trees"),
    ("federation.overlap=2", "federation.overlap", "at most 1"),
    ("learning.lr=nan", "learning.lr", "more than 0"),
    ("data=folder", "data.root", "data.root=DIR"),
    ("seed=1,2", "seed", "-m"),
    ("quick", "quick", "key=value"),
    ("=3", "=3", "key=value"),
    ("data.root=[1", "data.root=[1", "key=value"),
    ("data@x=k401", "data@x", ""),
    ("data.root=${oc.env:FEDPROFILE_NOT_SET}", "config", "FEDPROFILE_NOT_SET"),
]


@pytest.mark.parametrize(("override", "key", "said"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_mend(override, key, said):
    with pytest.raises(ConfigError) as caught:
        compose.compose([override])
    assert caught.value.exit_code == 2
    assert caught.value.key == key
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_users_own_yaml_names_the_file(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nlearning:\n  ruonds: 3\n")
    with pytest.raises(ConfigError, match=r"learning\.ruonds.*experiment/mine.*learning\.rounds"):
        compose.compose([f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"])


def test_the_run_folder_is_chosen_by_run_dir_by_hydras_name_or_by_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path))
    assert compose.compose([f"run.dir={tmp_path}/a"]).run.dir == f"{tmp_path}/a"
    assert compose.compose([f"hydra.run.dir={tmp_path}/b"]).run.dir == f"{tmp_path}/b"
    assert re.fullmatch(rf"{tmp_path}/\d{{4}}-\d\d-\d\d/\d\d-\d\d-\d\d", str(compose.compose().run.dir))
    monkeypatch.setenv("FEDPROFILE_HOME", "")
    with pytest.raises(ConfigError, match="FEDPROFILE_HOME"):
        compose.compose()


def test_a_sweep_is_the_product_in_numbered_folders(tmp_path):
    jobs = compose.sweep([f"run.dir={tmp_path}", "seed=range(2)", "model=mlp,tabm", "experiment=quick"])
    seen = [(job.config.seed, job.config.model.ensemble, job.folder) for job in jobs]
    assert seen == [(0, 1, tmp_path / "0"), (0, 4, tmp_path / "1"), (1, 1, tmp_path / "2"), (1, 4, tmp_path / "3")]
    assert jobs[3].overrides == (f"run.dir={tmp_path}", "seed=1", "model=tabm", "experiment=quick")
    assert all(job.config.learning.rounds == 1 for job in jobs)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["seed=1,2", "data.fold=0,9"], "data.fold"),
        (["run.dir=a,b"], "run.dir"),
        (["seed=1,2", "hydra.sweep.subdir=same"], "hydra.sweep.subdir"),
        (["seed=1,2", "hydra.launcher._target_=os.system"], "hydra/launcher"),
        (["learning.lr=interval(0,1)"], "config"),
    ],
)
def test_a_bad_sweep_is_refused_before_any_job(overrides, key):
    with pytest.raises(ConfigError) as caught:
        compose.sweep(overrides)
    assert caught.value.key == key


def test_the_hash_follows_what_affects_the_result_and_nothing_else():
    irrelevant = {"run.dir", "federation.backend", "federation.workers", "baselines.cache"}
    for key, value in values_of(Config()):
        config = Config()
        section, _, leaf = key.rpartition(".")
        new = not value if isinstance(value, bool) else "other" if value is None or isinstance(value, str) else 99
        setattr(getattr(config, section) if section else config, leaf, ["linear"] if isinstance(value, list) else new)
        same = compose.config_hash(config) == compose.config_hash(Config())
        assert same == (key in irrelevant or key.startswith("tracking.")), key


def test_members_are_the_datas_own_unless_the_federation_says_so():
    assert compose.compose().members == 3
    assert compose.compose(["data=k401"]).members == 1
    assert compose.compose(["federation.members=4"]).members == 4
    assert compose.config_hash(compose.compose(["federation.members=3"])) == compose.config_hash(compose.compose())


def test_a_written_run_folder_is_read_back(tmp_path):
    job = compose.single(["seed=7", "privacy.label_eps=null", f"run.dir={tmp_path}/new/run"])
    made = job.write()
    assert compose.read(job.folder) == job.config
    assert (job.folder / ".hydra" / "overrides.yaml").read_text().splitlines()[0] == "- seed=7"
    assert "sweep" in (job.folder / ".hydra" / "hydra.yaml").read_text()
    assert job.withdraw(made)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="no run folder"):
        compose.read(job.folder)


def test_a_folder_with_results_is_not_withdrawn(tmp_path):
    job = compose.single([f"run.dir={tmp_path}/run"])
    made = job.write()
    (job.folder / "state").touch()
    assert not job.withdraw(made)
    assert compose.read(job.folder) == job.config


def test_a_spoilt_run_folder_is_refused(tmp_path):
    job = compose.single([f"run.dir={tmp_path}/run"])
    job.write()
    file = job.folder / ".hydra" / "config.yaml"
    for bad in ("seed: [", "seed: x", "sed: 1", "- 1"):
        file.write_text(bad)
        with pytest.raises(ConfigError):
            compose.read(job.folder)


def test_a_callers_own_hydra_is_left_as_it_was(tmp_path):
    (tmp_path / "mine.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        compose.compose()
        assert hydra_compose("mine").x == 1


def test_keys_are_those_of_the_dataclasses():
    plain = asdict(Config())
    leaves = {f"{s}.{k}" for s, keys in plain.items() if isinstance(keys, dict) for k in keys} | {"seed"}
    assert set(KEYS) == leaves


def test_a_resolved_config_shows_no_password():
    config = compose.compose(["tracking.uri='postgresql://me:hunter2@host/db'", "federation.members=2"])
    assert compose.resolved(config)["tracking"]["uri"] == "postgresql://***@host/db"
    assert compose.resolved(config)["federation"]["members"] == 2
    assert config.tracking.uri == "postgresql://me:hunter2@host/db"
