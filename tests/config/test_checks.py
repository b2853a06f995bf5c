"""Names, ranges and rules between keys, on configs built in Python."""

from __future__ import annotations

from typing import Any

import pytest

from fedprofile.config.checks import CHOICES, ONLY, RANGES, REGISTERED, validate
from fedprofile.config.mistakes import KEYS
from fedprofile.config.schema import Config
from fedprofile.errors import ConfigError


def changed(**keys: Any) -> Config:
    config = Config()
    for key, value in keys.items():
        section, _, leaf = key.rpartition("__")
        setattr(getattr(config, section) if section else config, leaf, value)
    return config


def refused(**keys: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        validate(changed(**keys))
    return caught.value


def test_tables_name_only_keys_of_the_schema():
    assert {*CHOICES, *ONLY, *RANGES, *REGISTERED} <= set(KEYS)


def test_the_default_is_valid():
    validate(Config())


@pytest.mark.parametrize("key", RANGES)
def test_a_range_takes_its_closed_ends_and_refuses_beyond(key):
    low, high = RANGES[key][1:-1].split(", ")
    kind = float if KEYS[key] in (float, float | None) else int
    name = key.replace(".", "__")
    together = {"secure__min_hidden": 1, "fusion__min_views": 1} if int(low) == 1 and "min_" in key else {}
    for end, closed, beyond in ((low, RANGES[key][0] == "[", -1), (high, RANGES[key][-1] == "]", 1)):
        if end == "inf":
            assert refused(**{name: float("inf")}).key == key
            continue
        if closed:
            validate(changed(**{**together, name: kind(end)}))
        else:
            assert refused(**{name: kind(end)}).key == key
        assert refused(**{name: kind(int(end) + beyond)}).key == key
    if kind is float:
        assert refused(**{name: float("nan")}).key == key


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        ({"learning__share": "al"}, "learning.share", "'all'"),
        ({"secure__profile": "strickt"}, "secure.profile", "'strict'"),
        ({"data__source": "nhane"}, "data.source", "'nhanes'"),
        ({"secure__verify": "recomput"}, "secure.verify", "'recompute'"),
        ({"secure__profile": "none", "secure__verify": "recompute"}, "secure.verify", "plain update"),
        (
            {"secure__profile": "resilient", "secure__accept_differencing": True, "secure__verify": "recompute"},
            "secure.verify",
            "self masks",
        ),
        ({"secure__kem": "mlkem768"}, "secure.kem", "'x25519_mlkem768'"),
        ({"secure__kem": "x25519_mlkem768", "federation__backend": "ray"}, "secure.kem", "federation=inprocess"),
        ({"model__encoder": "mpl"}, "model.encoder", "'mlp'"),
        ({"model__head": "softmax"}, "model.head", "continuation_ratio"),
        ({"align__mode": "pis"}, "align.mode", "'psi'"),
        ({"privacy__mechanism": "dp"}, "privacy.mechanism", "not built yet"),
        ({"federation__consent": "ledger"}, "federation.consent", "deployed node"),
        ({"federation__secrets": "simulatd"}, "federation.secrets", "directory"),
        ({"federation__secrets": "simulated:x"}, "federation.secrets", "simulated:N"),
        ({"fusion__parts": []}, "fusion.parts", "at least one"),
        ({"fusion__parts": ["trees", "trees"]}, "fusion.parts", "once"),
        ({"fusion__min_views": 1}, "fusion.min_views", "secure.min_hidden=1"),
        ({"secure__min_hidden": 1}, "secure.min_hidden", "fusion.min_views=1"),
        ({"secure__profile": "resilient"}, "secure.accept_differencing", "accept_differencing=true"),
        ({"data__source": "folder"}, "data.root", "data.root=DIR"),
        ({"data__root": "x"}, "data.root", "data=folder"),
        ({"tracking__uri": "./mlruns"}, "tracking.uri", "sqlite:"),
        ({"seed": "3"}, "seed", "an integer, got str"),
        ({"seed": True}, "seed", "an integer, got bool"),
        ({"tracking__enabled": 1}, "tracking.enabled", "true or false"),
        ({"learning__steps": 2.0}, "learning.steps", "an integer or null"),
        ({"fusion__parts": "trees"}, "fusion.parts", "a list of texts"),
    ],
)
def test_what_is_wrong_is_named(keys, key, said):
    error = refused(**keys)
    assert error.key == key
    assert said in str(error)


def test_what_is_allowed(tmp_path):
    validate(changed(fusion__min_views=1, secure__min_hidden=1))
    validate(changed(secure__profile="resilient", secure__accept_differencing=True))
    validate(changed(federation__secrets="simulated:2"))
    validate(changed(secure__kem="x25519_mlkem768"))
    validate(changed(federation__secrets=str(tmp_path)))
    validate(changed(privacy__label_eps=None, learning__rounds=1, learning__lr=1))
    validate(changed(data__source="folder", data__root="anywhere"))


def test_a_registered_name_is_valid(tmp_path, monkeypatch):
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedprofile.encoders]\nmine = no.such.module:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    validate(changed(model__encoder="mine"))
