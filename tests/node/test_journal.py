import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprofile.errors import DataError
from fedprofile.node.journal import Journal

EVENTS = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), max_size=5)


@given(EVENTS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_appended_is_read_by_a_new_process(tmp_path, events):
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    for event in events:
        Journal(path).append(event)
    assert list(Journal(path)) == events


def test_a_journal_that_was_never_written_is_empty(tmp_path):
    assert list(Journal(tmp_path / "none.jsonl")) == []


@pytest.mark.parametrize("torn", [b'{"n":2', b'{"n":2}'])
def test_a_torn_last_line_was_never_acted_upon(tmp_path, torn):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"n": 1})
    with open(journal.path, "ab") as handle:
        handle.write(torn)
    assert list(journal) == [{"n": 1}]


def test_a_node_goes_on_after_a_torn_line(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"n": 1})
    with open(journal.path, "ab") as handle:
        handle.write(b'{"n":')
    journal.append({"n": 3})
    assert list(journal) == [{"n": 1}, {"n": 3}]


def test_a_damaged_line_is_named_and_not_quoted(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.path.write_bytes(b'{"n":1}\n{"SECRET\n{"n":3}\n')
    with pytest.raises(DataError, match="line 2 is damaged") as caught:
        list(journal)
    assert "SECRET" not in str(caught.value)
