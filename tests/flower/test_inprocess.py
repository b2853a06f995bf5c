"""The in-process grid: bytes both ways, and every name of Flower that Flower does not promise.

A new flwr that moves one of those names, or gives it another meaning, fails here first.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid, ServerApp

from fedprofile.errors import FedprofileError, NodeFailed, RemoteProtocolError
from fedprofile.flower import client_app, server_app
from fedprofile.flower.exchange import Exchange
from fedprofile.flower.inprocess import InProcessGrid, run_in_process
from fedprofile.flower.records import KEY, MESSAGE_TYPE, RECORD, pack, unpack

SECRET = "EXAMPLE-0001 has tier 2"


def app_that(answer) -> ClientApp:
    """A ClientApp whose node does ``answer(message, context) -> Message``."""
    app = ClientApp()
    app.query()(answer)
    return app


def echo(message: Message, context: Context) -> Message:
    return Message(pack(unpack(message)), reply_to=message)


@pytest.fixture
def grid_of(tmp_path):
    """``grid_of(answer, **words)``: a grid of three nodes, closed at the end."""
    made = []

    def make(answer, **words) -> InProcessGrid:
        made.append(InProcessGrid(app_that(answer), {p: tmp_path / p for p in ("bank", "shop", "tax")}, **words))
        return made[-1]

    yield make
    for grid in made:
        grid.close()


def asked(node: int, data: bytes = b"question") -> Message:
    return Message(pack(data), node, MESSAGE_TYPE, ttl=60.0)


class TestWhatFlowerDoesNotPromise:
    def test_the_grid_is_a_whole_grid(self, grid_of):
        grid = grid_of(echo)
        assert isinstance(grid, Grid)
        assert not getattr(InProcessGrid, "__abstractmethods__", None)
        grid.set_run(grid.run)
        assert [(n.node_id, n.name) for n in grid.get_nodes()] == [(2, "bank"), (3, "shop"), (4, "tax")]
        assert list(grid.get_node_ids()) == [2, 3, 4]

    def test_messages_find_their_way(self, grid_of):
        """Ids are the content's hash, a reply names what it answers, and nobody else can be its author."""
        grid = grid_of(lambda m, c: Message(pack(str(c.node_id).encode()), reply_to=m))
        questions = [asked(4), asked(2), grid.create_message(pack(b"made"), MessageType.QUERY, 3, "")]
        ids = list(grid.push_messages(questions))
        assert ids == [q.object_id for q in questions]
        replies = grid.pull_messages(ids)
        assert [r.metadata.reply_to_message_id for r in replies] == ids
        assert [r.metadata.src_node_id for r in replies] == [4, 2, 3]
        assert [unpack(r) for r in replies] == [b"4", b"2", b"3"]
        assert {r.metadata.dst_node_id for r in replies} == {1}
        assert grid.pull_messages(ids) == [], "a reply is given once"

    def test_a_tap_gets_the_bytes_that_arrive(self, grid_of):
        heard = []
        (reply,) = grid_of(echo, tap=lambda *words: heard.append(words)).send_and_receive([asked(3)])
        ((party, data),) = heard
        assert party == "shop"
        proto = ProtoMessage.FromString(data)
        assert proto.metadata.message_id == reply.metadata.message_id == reply.object_id
        assert proto.content.items[0].config_record.items[0].value.bytes == b"question"

    def test_the_run_config_reaches_the_server_app_and_its_error_comes_out(self, tmp_path):
        app, told = ServerApp(), []

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            told.append((context.run_config["job"], len(list(grid.get_node_ids()))))
            raise NodeFailed("shop", "internal_error")

        with pytest.raises(NodeFailed, match=r"node 'shop' answered internal_error"):
            run_in_process(app, app_that(echo), {"bank": tmp_path}, tmp_path / "job")
        assert told == [(str(tmp_path / "job"), 1)]

    def test_a_home_reaches_the_node_and_contexts_keep_nothing(self, grid_of, tmp_path):
        def answer(message, context):
            held = dict(context.state)
            context.node_config["home"] = str(context.node_config["home"])
            return Message(pack(f"{context.node_config['home']} {held}".encode()), reply_to=message)

        assert unpack(grid_of(answer).send_and_receive([asked(4)])[0]) == f"{tmp_path / 'tax'} {{}}".encode()


class TestBytes:
    def test_no_object_is_shared(self, grid_of):
        """A client that changes what it was sent, or keeps what it sent, changes nothing at the server."""
        kept = []

        def vandal(message, context):
            message.content[RECORD][KEY] = b"changed"
            message.content["more"] = ConfigRecord({"x": 1})
            reply = Message(pack(b"answer"), reply_to=message)
            kept.append((message, reply))
            return reply

        question = asked(2)
        (reply,) = grid_of(vandal).send_and_receive([question])
        assert unpack(question) == b"question"
        (got, sent) = kept[0]
        assert got is not question
        assert sent is not reply
        sent.content[RECORD][KEY] = b"changed later"
        assert unpack(reply) == b"answer"

    def test_the_question_is_sealed_when_it_is_pushed(self, grid_of):
        """What the server does to its own message afterwards does not reach the node."""
        gate = threading.Event()

        def late(message, context):
            gate.wait(10)
            return echo(message, context)

        grid, question = grid_of(late), asked(2)
        ids = grid.push_messages([question])
        question.content[RECORD][KEY] = b"changed"
        gate.set()
        assert unpack(grid.pull_messages(ids)[0]) == b"question"

    @pytest.mark.parametrize(
        "content",
        [
            RecordDict(),
            RecordDict({"other": ConfigRecord({KEY: b"x"})}),
            RecordDict({RECORD: ConfigRecord({KEY: "text"})}),
            RecordDict({RECORD: ConfigRecord({KEY: b"x", "loss": 0.5})}),
            RecordDict({RECORD: ConfigRecord({KEY: b"x"}), "more": ConfigRecord()}),
        ],
    )
    def test_only_one_envelope_is_unpacked(self, grid_of, content):
        (reply,) = grid_of(lambda m, c: Message(content, reply_to=m)).send_and_receive([asked(2)])
        with pytest.raises(RemoteProtocolError, match="bad_record"):
            unpack(reply)


class TestErrors:
    def test_an_exceptions_text_never_crosses(self, grid_of):
        def fails(message, context):
            raise ValueError(SECRET)

        heard = []
        grid = grid_of(fails, tap=lambda _, data: heard.append(data))
        (reply,) = grid.send_and_receive([asked(3)])
        assert reply.has_error()
        assert reply.error.reason == "ValueError"
        assert not any(b"EXAMPLE" in data for data in heard)
        with pytest.raises(NodeFailed) as failed:
            Exchange(grid, Path("job"), {"shop": 3}).talk({"shop": b"question"})
        assert failed.value.node == "shop"
        assert "EXAMPLE" not in str(failed.value)

    def test_where_parties_may_be_absent_the_others_answers_come(self, grid_of):
        def some(message, context):
            if message.metadata.dst_node_id == 3:
                raise ValueError(SECRET)
            return Message(message.content, reply_to=message)

        grid = grid_of(some)
        exchange = Exchange(grid, Path("job"), {"bank": 2, "shop": 3})
        assert exchange.talk({"bank": b"q", "shop": b"q"}, absent=True) == {"bank": b"q"}

    def test_nor_does_a_nodes_own(self, small, tmp_path, monkeypatch):
        """A node that fails says a fixed code; the ServerApp says which node it was."""
        federated, heard = small(tmp_path), []

        def fails(self):
            raise KeyError(SECRET)

        monkeypatch.setattr("fedprofile.node.run.NodeRun.counts", fails)
        with pytest.raises(NodeFailed, match=r"node 'shop-1' answered internal_error$"):
            run_in_process(
                server_app.app, client_app.app, federated.homes, federated.folder, tap=lambda *w: heard.append(w)
            )
        client_app.forget(list(federated.homes.values()))
        assert not any(b"EXAMPLE" in data for _, data in heard)

    def test_one_failing_node_does_not_keep_the_others_answers(self, grid_of):
        def some(message, context):
            if context.node_id == 3:
                raise RuntimeError(SECRET)
            return echo(message, context)

        replies = grid_of(some, workers=3).send_and_receive([asked(n) for n in (2, 3, 4)])
        assert [r.has_error() for r in replies] == [False, True, False]


def test_workers_change_no_bit(small, tmp_path):
    """Nodes answered by three threads train the same model as nodes answered one after another."""
    found = []
    for workers in (1, 3):
        federated = small(tmp_path / str(workers))
        run_in_process(server_app.app, client_app.app, federated.homes, federated.folder, workers=workers)
        client_app.forget(list(federated.homes.values()))
        found.append((federated.folder / "checkpoint.safetensors").read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("claimed", ["shop-1", "somebody"])
def test_a_node_that_claims_to_be_another_is_named(small, tmp_path, claimed):
    """Who is who is asked of the nodes; two of one name, or an unknown one, end the run before any plan is shown."""
    federated, heard = small(tmp_path), []
    node = federated.homes["tax"] / "node.json"
    node.write_text(node.read_text().replace('"party": "tax"', f'"party": "{claimed}"'))
    with pytest.raises(FedprofileError, match=claimed if claimed == "shop-1" else "somebody|tax"):
        run_in_process(server_app.app, client_app.app, federated.homes, federated.folder, lambda *w: heard.append(w))
    client_app.forget(list(federated.homes.values()))
    assert len(heard) == 5, "only the five identities crossed"
