"""The registry on real files: what is promoted lies unchanged on the shelf, and a race has one winner."""

from __future__ import annotations

import multiprocessing as mp
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import racer
from desk import Desk, actor, said, small_model
from office import YEAR, key

from fedprofile.errors import DataError, DeploymentError, FedprofileError, UsageError
from fedprofile.governance.promotion import Refused
from fedprofile.models.fusion import FusedModel
from fedprofile.registry.home import LOG_FILE, create, join, load
from fedprofile.registry.promote import approve, gate, previous, promote, retire, roll_back, shadow
from fedprofile.registry.seal import sign_manifest
from fedprofile.registry.version import find, have, logged
from fedprofile.registry.views import difference, history, sentence, status
from fedprofile.types import canonical


@pytest.fixture(scope="module")
def model() -> FusedModel:
    return small_model()


@pytest.fixture(params=["file", "sqlite"])
def desk(request, tmp_path, model) -> Desk:
    store = "file" if request.param == "file" else f"sqlite:///{tmp_path / 'shared.db'}"
    return Desk(tmp_path, model, store)


@pytest.fixture
def one(tmp_path, model) -> Desk:
    return Desk(tmp_path, model)


def test_promote_roll_back_retire_and_shadow_are_lines_that_everybody_reads_alike(desk):
    a, b = desk.champion("a"), desk.champion("b")
    c = desk.approved("c")
    shadow(desk.registry, actor("chen"), c)
    assert roll_back(desk.registry, actor("chen"), None, "scores drift").champion == a
    with pytest.raises(Refused, match="champion changed"):
        promote(desk.registry, actor("chen"), c)
    retire(desk.registry, actor("chen"), b, "bias")
    with pytest.raises(UsageError, match="no earlier champion"):
        previous(desk.state)
    state = desk.reopened().state()
    assert (state.champions, state.champion, state.shadow) == ((a, b, a), a, c)
    assert [state.stage(m) for m in (a, b, c)] == ["champion", "retired", "shadow"]
    told = [sentence(line, state) for line in history(desk.registry)[1]]
    assert len(told) == state.head.seq
    assert "rollback" in told[-2]
    assert told[-2].endswith("scores drift")


CHANGES = {
    "a byte of a weight": lambda f: _flip(f / "weights.safetensors"),
    "a byte of the facts": lambda f: _flip(f / "bundle.json"),
    "a byte of the manifest": lambda f: _flip(f / "manifest.json"),
    "a file is missing": lambda f: (f / "bundle.json").unlink(),
    "a file more": lambda f: (f / "more.json").touch(),
    "another bundle in its place": lambda f: (shutil.rmtree(f), shutil.copytree(f.parents[2] / "other", f)),
    "nothing there": shutil.rmtree,
    "the same manifest, signed by another": lambda f: _sign_again(f, "zhou"),
}


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _sign_again(folder: Path, who: str) -> None:
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.sig").write_bytes(sign_manifest(manifest, key(who)))


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_on_the_shelf_is_neither_approved_nor_promoted_nor_gone_back_to(one, change):
    former = one.champion("former")
    one.champion("now")
    new = one.approved("new")
    one.bundle("other")
    before = one.state
    for manifest in (new, former):
        CHANGES[change](one.registry.shelf.folder(manifest))
    with pytest.raises(FedprofileError):
        approve(one.registry, actor("wang"), new, None, "approve", 14)
    with pytest.raises(FedprofileError):
        promote(one.registry, actor("chen"), new)
    with pytest.raises(FedprofileError):
        roll_back(one.registry, actor("chen"), former, "drift")
    assert one.state == before


def test_a_key_that_is_not_the_person_s_writes_nothing(one):
    manifest = one.approved("a")
    before = one.state
    with pytest.raises(UsageError, match="not the key of 'chen'"):
        promote(one.registry, replace(actor("chen"), key=key("wang")), manifest)
    assert one.state == before


def test_gates_of_another_bundle_and_a_moved_clock_write_nothing(one):
    manifest = one.registry.shelf.put(one.bundle("a"))
    other = one.registry.shelf.put(one.bundle("b"))
    swapped = lambda folder, champion, out: said(True)(one.registry.shelf.folder(other), champion, out)  # noqa: E731
    with pytest.raises(UsageError, match="another bundle"):
        gate(one.registry, actor("wang"), manifest, "", one.folder / "out", swapped)
    one.now -= 10
    with pytest.raises(Refused, match="clock"):
        one.gate(one.folder / "a")


def test_a_version_is_found_by_folder_number_and_hash(one):
    folder = one.bundle("a")
    served = {"3": folder, "4": folder}

    def fetch(number: str, into: Path) -> Path:
        return Path(shutil.copytree(served[number], into / "bundle"))

    def down(number: str, into: Path) -> Path:
        raise DeploymentError("MLflow does not answer")

    manifest, number = find(one.registry, one.state, "3", fetch)
    assert number == "3"
    with pytest.raises(DeploymentError):
        find(one.registry, one.state, "3", down)
    one.gate(folder, version="3")
    for name, way in [("3", fetch), ("3", down), (manifest[:8], None), (str(folder), None)]:
        assert find(one.registry, one.state, name, way)[0] == manifest
    assert logged(one.state, "3") == logged(one.state, manifest[:6]) == manifest
    served["3"] = one.bundle("evil")
    with pytest.raises(DataError, match="another bundle"):
        find(one.registry, one.state, "3", fetch)
    for name in ("5", manifest[:3], "no such"):
        with pytest.raises((UsageError, KeyError)):
            logged(one.state, name)
    served["3"] = folder
    shutil.rmtree(one.registry.shelf.folder(manifest))
    have(one.registry, one.state, manifest, fetch)
    one.registry.shelf.read(manifest)
    with pytest.raises(Refused, match="another bundle in this log"):
        one.gate(one.bundle("b"), version="3")


def test_a_second_machine_joins_and_follows(tmp_path, model):
    desk = Desk(tmp_path, model, f"sqlite:///{tmp_path / 'shared.db'}")
    a = desk.champion("a")
    mine = desk.registry
    other = join(tmp_path / "elsewhere", mine.root_pk, mine.store, mine.model, None)
    assert other.state() == desk.state
    with pytest.raises(UsageError, match="not on this machine"):
        other.shelf.read(a)
    with pytest.raises(DeploymentError):
        join(tmp_path / "third", key("eve").sign_pk, mine.store, mine.model, None)
    with pytest.raises(UsageError):
        join(tmp_path / "fourth", mine.root_pk, "file", mine.model, None)


def test_a_home_is_made_once_and_is_private(one):
    with pytest.raises(UsageError, match="not empty"):
        create(one.registry.path, key("root"), "file", "m", None)
    with pytest.raises(UsageError, match="no registry"):
        load(one.folder / "nowhere")
    files = [one.registry.path / name for name in ("registry.json", "people.json", LOG_FILE)]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    files[0].write_text("{}")
    with pytest.raises(DataError):
        load(one.registry.path)


def test_the_status_says_what_is_missing_and_where_people_differ(one):
    one.gate(one.bundle("a"), passed=False)
    facts = status(one.registry, one.state, one.now)
    assert facts["people_file"]
    (version,) = facts["versions"]
    assert version["objections"][0] == "its gates did not pass"
    assert [*version["objections"][1:]] == ["no validator has approved it", "no approver has approved it"]
    (one.registry.path / "people.json").write_bytes(canonical(replace(one.state.people, version=99).to_json()))
    assert not status(one.registry, one.state, one.now + YEAR)["people_file"]


def test_a_difference_names_what_changed():
    assert difference({"a": {"b": 1, "c": 2}, "d": []}, {"a": {"b": 1, "c": 3}, "e": 4}) == [
        ("a.c", 2, 3), ("d", [], None), ("e", None, 4),
    ]  # fmt: skip


def race(desk: Desk, versions: int, processes: int, each: int) -> None:
    """``processes`` × ``each`` promotions of approved versions at once."""
    manifests = [desk.approved(f"v{n}") for n in range(versions)]
    before = desk.state.head.seq
    spawn = mp.get_context("spawn")
    start, answers = spawn.Barrier(processes), spawn.Queue()
    mine = [[manifests[(p + n) % versions] for n in range(each)] for p in range(processes)]
    racers = [spawn.Process(target=racer.run, args=(desk.registry.path, m, start, answers, desk.now)) for m in mine]
    for one in racers:
        one.start()
    given = [answers.get(timeout=300) for _ in range(processes * each)]
    for one in racers:
        one.join()
        assert one.exitcode == 0
    won = [answer for answer in given if isinstance(answer, str)]
    state, lines = history(desk.registry)  # replays the whole log, which has no gap
    assert [state.champion] == won
    assert state.champions == (won[0],)
    assert [line["line"] for line in lines] == list(range(1, before + 2))
    refused = {reason for answer in given if not isinstance(answer, str) for reason in answer}
    assert refused == {"the champion changed since its gates ran", "it is the champion"}


def test_of_racing_promotions_one_wins(one):
    race(one, versions=2, processes=2, each=4)


@pytest.mark.nightly
def test_of_a_thousand_racing_promotions_one_wins(desk):
    race(desk, versions=10, processes=8, each=125)
