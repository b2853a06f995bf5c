"""With the worked example of a plugin: an own encoder, registered by name, trained like the built-in one."""

import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fedprofile.errors import ConfigError
from fedprofile.models import registry

PLUGIN = '''
"""An encoder with one linear layer. Its package would declare, in setup.cfg:

[options.entry_points]
fedprofile.encoders =
    linear = linear_encoder:SPEC
"""
from fedprofile.models.layout import EncoderSpec, linear_shapes


def shapes(width, shape):  # called where torch may be absent
    return linear_shapes("only", shape, width, shape.profile, first=True)


SPEC = EncoderSpec(shapes, "linear_encoder_net:LinearEncoder")
'''
PLUGIN_NET = """
from torch import nn
from fedprofile.models.net import BatchEnsembleLinear


class LinearEncoder(nn.Module):
    def __init__(self, width, shape):
        super().__init__()
        self.only = BatchEnsembleLinear(shape, width, shape.profile, first=True)

    def forward(self, x, pool):
        return self.only(x[:, None])
"""
USE = """
import sys, torch
from fedprofile.models.layout import NetShape, encoder_shapes, initial_weights
from fedprofile.types import LearningPlan
plan = LearningPlan(encoder="linear", ensemble=2)
start = initial_weights(encoder_shapes(5, plan), 0, "x")
from fedprofile.models.net import ProfileNet, load_weights
net = ProfileNet(5, 3, NetShape.of(plan))
load_weights(net, start)
assert set(start) == {n for n, _ in net.named_parameters() if n.startswith("encoder.")}
assert net(torch.zeros(1, 4, 5), None).shape == (3, 2, 4, 3)
"""


def test_a_plugin_installed_as_an_entry_point_is_found_and_built(tmp_path: Path) -> None:
    (tmp_path / "linear_encoder.py").write_text(textwrap.dedent(PLUGIN))
    (tmp_path / "linear_encoder_net.py").write_text(PLUGIN_NET)
    info = tmp_path / "linear_encoder-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: linear-encoder\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fedprofile.encoders]\nlinear = linear_encoder:SPEC\n")
    root = Path(registry.__file__).parents[2]
    env = {"PYTHONPATH": f"{tmp_path}:{root}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", USE], check=True, env=env)


@pytest.mark.parametrize(
    ("kind", "name", "near"), [("encoders", "mpl", "mlp"), ("heads", "ratio", "continuation_ratio")]
)
def test_an_unknown_name_is_refused_with_the_nearest(kind: registry.PluginKind, name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=near) as error:
        registry.resolve(kind, name)
    assert error.value.key == f"model.{kind[:-1]}"


def test_a_package_cannot_take_over_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rogue = EntryPoint("mlp", "os:system", "fedprofile.encoders")
    monkeypatch.setattr(registry, "entry_points", lambda group: [rogue])
    assert registry.resolve("encoders", "mlp").module == "fedprofile.models.net:MlpEncoder"
