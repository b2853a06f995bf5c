"""The PNGs: which are written, that they are readable, and that drawing leaves no trace."""

import hashlib
import sys

import pytest
from PIL import Image

from fedprofile.report.plots import slugs, write_plots


def test_each_plot_is_written_sharp_and_not_empty(drawn):
    kinds = ("models", "gain", "confusion", "reliability")
    expected = {"learning_curve.png", *(f"{k}_{t}.png" for k in kinds for t in ("tier", "uninsured"))}
    assert {p.name for p in drawn} == expected
    for path in drawn:
        with Image.open(path) as image:
            assert image.width >= 1000
            assert len(image.convert("RGB").getcolors(10**7)) > 50


def test_plots_without_data_are_left_out_and_nothing_else_is_touched(bare, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    first, second = (write_plots(bare, tmp_path / d) for d in "ab")
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    assert [p.name for p in first] == ["models_uninsured.png", "confusion_uninsured.png"]
    assert [_hash(p) for p in first] == [_hash(p) for p in second]


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_and_chinese_names_draw_without_a_warning_and_stay_in_the_folder(bare, tmp_path):
    task = bare["tasks"]["uninsured"] | {"levels": ["无 $x^2", "有"]}
    bare["tasks"] = {"../../$\\frac{": task, "客户": task}
    bare["learning_curve"] = {"rounds": [1, 2], "loss": {name: [0.7, 0.6] for name in bare["tasks"]}}
    paths = write_plots(bare, tmp_path)
    assert len(paths) == 5
    assert {p.parent for p in paths} == {tmp_path}


def test_names_that_look_alike_get_files_of_their_own():
    assert slugs({"a b": 0, "A-B": 0, "客户": 0, "分层": 0}) == ["a-b", "a-b-2", "task", "task-2"]
    assert len(set(slugs({"x": 0, "x-3": 0, "X": 0}))) == 3
