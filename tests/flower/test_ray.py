"""The same job in Flower's own engine on Ray and in process: not one bit of the shared model differs."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import load_file

from fedprofile.flower import client_app, server_app
from fedprofile.flower.inprocess import run_in_process
from fedprofile.flower.ray_engine import run_on_ray


def test_ray_gives_the_in_process_model_bit_for_bit(small, tmp_path, monkeypatch):
    monkeypatch.delenv("FEDPROFILE_HOMES", raising=False)
    monkeypatch.delenv("FEDPROFILE_JOB", raising=False)
    here, ray = small(tmp_path / "here"), small(tmp_path / "ray")
    assert here.job == ray.job, "equal runs have equal plans, run ids and keys"
    run_in_process(server_app.app, client_app.app, here.homes, here.folder)
    client_app.forget(list(here.homes.values()))
    run_on_ray(server_app.app, client_app.app, ray.homes, ray.folder, workers=2)

    ours, rays = (load_file(f.folder / "checkpoint.safetensors") for f in (here, ray))
    assert ours.keys() == rays.keys()
    assert {name.split("/")[0] for name in ours} == {"shared", "encoder", "count"}
    for name in ours:
        assert ours[name].tobytes() == rays[name].tobytes(), name
    sums = [load_file(f.homes["bank"] / "run" / "score_sum.safetensors")["sums"] for f in (here, ray)]
    assert np.abs(sums[0]).max() > 0
    assert sums[0].tobytes() == sums[1].tobytes()
    kept = [{p: (h / "encoders" / "finished.json").read_bytes() for p, h in f.homes.items()} for f in (here, ray)]
    assert kept[0] == kept[1], "partners say the same of the same encoders"
    outcomes = [json.loads((f.folder / "outcome.json").read_text()) for f in (here, ray)]
    assert outcomes[0] == outcomes[1], "not a message, byte or round sum more"
