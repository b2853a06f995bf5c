import numpy as np
import pytest

from fedprofile.errors import DataError
from fedprofile.label_owner.home import (
    Membership,
    adopt_simulated_membership,
    read_fold,
    read_labels,
    read_membership,
    write_membership,
    write_owner,
    write_simulated_membership,
)
from fedprofile.node.source import table_ids
from fedprofile.types import Labels, Task

TASKS = (Task("tier", "ordinal", 3),)


def test_the_label_owners_files_come_back(world):
    home = world.home("bank")
    ids = table_ids(home.path / "table.parquet")
    tier = np.arange(len(ids)) % 4 - 1
    write_owner(home.path, Labels(ids, {"tier": tier, "other": tier}), 3)
    assert read_fold(home) == 3
    assert {k: v.tolist() for k, v in read_labels(home, TASKS).items()} == {"tier": tier.tolist()}


def test_labels_of_a_table_that_has_changed_since_are_nobodys(world):
    home = world.home("bank")
    ids, labels = table_ids(home.path / "table.parquet"), world.federation.labels
    for others in (ids[1:], ids[::-1], np.append(ids[:-1], "NEW")):
        write_owner(home.path, Labels(others, labels.values), 0)
        with pytest.raises(DataError, match="node labels"):
            read_labels(home, TASKS)


def test_who_knows_whom_is_of_the_run(world, code_of):
    home = world.home("bank")
    assert code_of(lambda: read_membership(home)) == "no_spine"
    mine = Membership({"tax-1": np.array([True, False]), "tax-2": np.array([False, False])})
    write_membership(home, mine)
    known = read_membership(home).known
    assert {k: v.tolist() for k, v in known.items()} == {"tax-1": [True, False], "tax-2": [False, False]}
    assert known["tax-1"].dtype == np.bool_
    home.clear_run()
    assert code_of(lambda: read_membership(home)) == "no_spine"


def test_what_was_simulated_is_taken_into_the_run(world):
    home = world.home("bank")
    write_simulated_membership(home, Membership({"tax": np.array([True, False])}))
    adopt_simulated_membership(home)
    assert read_membership(home).known["tax"].tolist() == [True, False]


def test_true_labels_lie_in_the_label_owners_home_alone(finished):
    world, _ = finished
    assert [p.parent.name for p in world.root.rglob("label_owner.safetensors")] == ["bank"]
    truth = world.federation.labels.values["tier"].tobytes()
    holders = {
        p.relative_to(world.root / "nodes").parts[0]
        for p in (world.root / "nodes").rglob("*")
        if p.is_file() and truth in p.read_bytes()
    }
    assert holders == {"bank"}
