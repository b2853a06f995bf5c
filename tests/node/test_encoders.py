"""A partner keeps its encoders of the last three finished runs, and its word is about the very files."""

import json

import pytest

from fedprofile.acknowledging import Acknowledgement
from fedprofile.cli.main import main
from fedprofile.errors import DataError
from fedprofile.models.partner_scorer import PartnerScorer
from fedprofile.node.encoders import KEPT, finished_run, finished_runs, keep_encoder, kept_as_signed

PLANS = [bytes([i]) * 32 for i in range(KEPT + 1)]


def _file(home, plan):
    return home.path / "encoders" / f"{plan.hex()}.safetensors"


def test_asked_again_a_node_says_and_keeps_the_same(finished):
    world, _ = finished
    home, plan, index = world.home("tax"), world.job.plan.hash, world.home("tax").path / "encoders" / "finished.json"
    data, listed, held = _file(home, plan).read_bytes(), index.read_bytes(), finished_run(world.home("tax"), plan)
    assert PartnerScorer.from_bytes(data).to_bytes() == world.node("tax").run.scorer().to_bytes() == data
    reply = world.ask("tax", "finish")
    assert (reply.body["encoder"], reply.parts[0].hex()) == (held["digest"], held["signature"])
    said = {"digest": reply.body["encoder"], "signature": reply.parts[0].hex()}
    assert Acknowledgement.checked(said, "tax", world.job.roster, plan).to_json() == said
    assert (_file(home, plan).read_bytes(), index.read_bytes()) == (data, listed)
    assert _file(home, plan).stat().st_mode & 0o777 == 0o600


def test_a_crash_between_file_and_list_changes_no_bit(finished):
    world, _ = finished
    home, plan = world.home("tax"), world.job.plan.hash
    before, data = finished_runs(home), _file(home, plan).read_bytes()
    (home.path / "encoders" / "finished.json").unlink()
    _file(home, plan).write_bytes(b"an older half")
    world.restart("tax")
    world.ask("tax", "finish")
    assert (finished_runs(home), _file(home, plan).read_bytes()) == (before, data)


def test_the_last_three_stay_and_the_first_word_on_a_run_is_the_last(world):
    home, node = world.home("tax"), world.node("tax")
    words = [keep_encoder(home, node.identity, plan, lambda p=plan: b"file " + p) for plan in PLANS]
    again = keep_encoder(home, node.identity, PLANS[2], lambda: b"another file")
    assert again == words[2]
    assert [run["plan"] for run in finished_runs(home)] == [p.hex() for p in PLANS[1:]], "in the order of finishing"
    assert [_file(home, plan).exists() for plan in PLANS] == [False, True, True, True]
    assert len({word.digest for word in words}) == len(PLANS)
    assert _file(home, PLANS[2]).read_bytes() == b"file " + PLANS[2]


def test_a_run_without_scores_is_not_finished(ready):
    world, _ = ready
    assert world.ask("tax", "finish").body == {"code": "no_scores"}
    assert finished_runs(world.home("tax")) == []
    assert world.node("tax").keeper.current, "its keys are not forgotten"


def test_the_command_makes_every_mark_again(finished, capsys):
    world, _ = finished
    home, words = world.home("tax"), ["node", "encoders", str(world.home("tax").path)]
    assert main([*words, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["plan"], run["on"], run["as_signed"]) == (world.job.plan.hash.hex(), None, True)
    file = _file(home, world.job.plan.hash)
    file.write_bytes(file.read_bytes() + b"x")
    assert main(words) == 1
    assert "NOT what was signed" in capsys.readouterr().out
    file.unlink()
    assert not kept_as_signed(home, world.node("tax").identity, run)
    assert main(["node", "encoders", str(world.home("bank").path)]) == 0
    assert "acknowledged by ecommerce, tax" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[1]", '[{"plan": 1, "on": null}]'])
def test_a_damaged_list_is_named(finished, text):
    home = finished[0].home("tax")
    (home.path / "encoders" / "finished.json").write_text(text)
    with pytest.raises(DataError, match=r"finished\.json"):
        finished_runs(home)
