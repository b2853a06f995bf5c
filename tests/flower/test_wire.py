"""Every byte that every node sends in a whole run is accounted for, and what should not be there is found.

The first class reads captured bytes with ``wire_audit.audit``; the second plants one leak after another in the
running nodes and sees the same function fail.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from dataclasses import replace

import pytest
from flwr.app import ConfigRecord, RecordDict
from wire_audit import audit
from wire_secrets import embeddings

from fedprofile.alignment import letters, psi
from fedprofile.alignment.letters import TYPES
from fedprofile.flower import client_app, inprocess, server_app
from fedprofile.flower.inprocess import run_in_process
from fedprofile.label_owner import party as label_owner
from fedprofile.messages import Envelope
from fedprofile.node import aligning, uniting
from fedprofile.node.audit import NodeAudit
from fedprofile.node.party import Node
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.encoding import pack, vectors
from fedprofile.secagg.masking import add_masks
from fedprofile.secagg.round_messages import Upload


def listen(federated) -> list[tuple[str, bytes]]:
    """Run the job and return (party, serialised reply) in the order sent; however it ends, what was sent was sent."""
    captured: list[tuple[str, bytes]] = []
    with contextlib.suppress(Exception):
        tap = lambda party, data: captured.append((party, data))  # noqa: E731
        run_in_process(server_app.app, client_app.app, federated.homes, federated.folder, tap=tap)
    client_app.forget(list(federated.homes.values()))
    return captured


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A run of which all sockets are watched as well."""
    federated = small(tmp_path_factory.mktemp("wire"))
    outside: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, lambda self, *words: outside.append(words))
        captured = listen(federated)
    return captured, federated, outside


class TestWhatIsSent:
    def test_is_accounted_for_byte_by_byte(self, run):
        captured, federated, _ = run
        assert (federated.folder / "outcome.json").exists()
        audit(captured, federated.job, federated.homes)

    def test_covers_all_kinds_of_sums(self, run):
        captured, federated, _ = run
        sums = Counter()
        for _, data in captured:
            envelope = Envelope.decode(inner(data))
            for part in envelope.parts if envelope.type == "uploads" else ():
                sums[Upload.decode(part, federated.job.roster).id.kind] += 1
        # 3 shops count, 5 nodes weigh; 5 nodes and 3 shops in two rounds; all but the bank score
        assert sums == {"stats": 3 + 5, "update": 5 * 2, "role": 3 * 2, "score": 4}

    def test_goes_nowhere_else(self, run):
        assert run[2] == []

    def test_fails_without_masks(self, small, tmp_path):
        federated = small(tmp_path, "secure=none")
        captured = listen(federated)
        assert (federated.folder / "outcome.json").exists()
        with pytest.raises(AssertionError, match="crossed"):
            audit(captured, federated.job, federated.homes)

    @pytest.mark.parametrize("mode", ["align=union", "align=plain", "align=simulated", "secure.kem=x25519_mlkem768"])
    def test_is_accounted_for_however_keys_and_ids_meet(self, small, tmp_path, mode):
        federated = small(tmp_path, mode)
        captured = listen(federated)
        assert (federated.folder / "outcome.json").exists()
        audit(captured, federated.job, federated.homes)

    def test_fails_for_half_a_run(self, run):
        captured, federated, _ = run
        with pytest.raises(AssertionError, match="not whole"):
            audit(captured[:-1], federated.job, federated.homes)


def inner(data: bytes) -> bytes:
    """The envelope inside a serialised Flower message."""
    message = inprocess.read_message(data)
    return bytes(message.content.config_records["fedprofile"]["envelope"])


class TestPlantedLeaks:
    """One leak each, in nodes that otherwise run as they are."""

    @pytest.fixture
    def found(self, small, tmp_path, monkeypatch):
        """Runs the federation with what was planted, and audits it with the code as it is."""

        def look(match: str, *settings: str) -> None:
            federated = small(tmp_path / "leak", *settings)
            captured = listen(federated)
            monkeypatch.undo()
            with pytest.raises(AssertionError, match=match):
                audit(captured, federated.job, federated.homes)

        return look

    @staticmethod
    def reply(monkeypatch, type_: str, change, party: str = "") -> None:
        """``change(node, envelope)`` for every reply of one type, of one party or of all."""
        encode, node = Envelope.encode, [None]
        handle = Node.handle

        def watched(self, request):
            node[0] = self
            return handle(self, request)

        def leaky(self):
            if self.type == type_ and node[0] is not None and party in ("", node[0].me):
                return encode(change(node[0], self))
            return encode(self)

        monkeypatch.setattr(Node, "handle", watched)
        monkeypatch.setattr(Envelope, "encode", leaky)

    @pytest.fixture
    def any_sum(self, monkeypatch):
        """A sum that these leaks turn into noise is taken for one: without that, the run would end there."""
        for place in ("coordinator.rounds", "node.recompute"):
            monkeypatch.setattr(f"fedprofile.{place}.check_weight", lambda _: None)

    @pytest.mark.usefixtures("any_sum")
    def test_an_unmasked_upload(self, monkeypatch, found):
        mask = ClientSession._mask
        monkeypatch.setattr(ClientSession, "_mask", lambda s, y, r, h: s.me == "tax" or mask(s, y, r, h))
        found("crossed")

    @pytest.mark.parametrize(
        "kind", ["update", "score", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("stats", "role"))]
    )
    def test_one_kind_of_sum_unmasked(self, monkeypatch, found, kind):
        mask = ClientSession._mask
        monkeypatch.setattr(ClientSession, "_mask", lambda s, y, r, h: r.id.kind == kind or mask(s, y, r, h))
        found("not masked|crossed|not random")

    @pytest.mark.usefixtures("any_sum")
    def test_one_mask_for_two_rounds(self, monkeypatch, found):
        """Each vector looks random, but what changed between them does not."""
        mask, pad = ClientSession._mask, [(bytes(range(32)), 1)]

        def reuse(self, y, round, h):
            if round.id.kind != "update" or self.me != "tax":
                return mask(self, y, round, h)
            return add_masks(vectors(y, round.layout), pad)

        monkeypatch.setattr(ClientSession, "_mask", reuse)
        found("twice")

    def test_scores_in_the_tail_of_a_masked_vector(self, monkeypatch, found):
        contribute = ClientSession.contribute

        def leaky(self, round, quantised, *rest):
            plain = bytes(pack(quantised, round.layout))[-400:]
            upload = Upload.decode(contribute(self, round, quantised, *rest), self.roster)
            y = bytes(upload.y)[:-400] + plain
            return Upload.of(round, self.me, upload.h, upload.audit_head, y, self._identity).encode()

        monkeypatch.setattr(ClientSession, "contribute", leaky)
        found("crossed|not random")

    def test_a_loss_in_a_body(self, monkeypatch, found):
        self.reply(monkeypatch, "uploads", lambda _, e: replace(e, body={"loss": 0.6931}), party="shop-2")
        found("body of uploads")

    def test_an_id_in_a_body(self, monkeypatch, found):
        customer = lambda node, e: replace(e, body=e.body | {"first": str(node.run.table.ids[0])})  # noqa: E731
        self.reply(monkeypatch, "finished", customer)
        found("body of finished")

    def test_a_count_in_an_acknowledgement(self, monkeypatch, found):
        rows = lambda node, e: replace(e, body={"rows": len(node.run.table)})  # noqa: E731
        self.reply(monkeypatch, "labels-stored", rows, party="tax")
        found("body of labels-stored")

    @pytest.mark.parametrize("what", ["scores", pytest.param("embeddings", marks=pytest.mark.nightly)])
    def test_an_extra_part(self, monkeypatch, found, what):
        def more(node, envelope):
            if len(envelope.parts) == 2 or (what == "scores" and node.home.read("means.json") is None):
                return envelope
            data = node.run.placed_scores() if what == "scores" else embeddings(node.run)
            return replace(envelope, parts=(*envelope.parts, data.tobytes()))

        self.reply(monkeypatch, "uploads", more, party="tax")
        found("more or fewer parts")

    @pytest.mark.nightly
    def test_a_longer_upload(self, monkeypatch, found):
        contribute = ClientSession.contribute
        monkeypatch.setattr(ClientSession, "contribute", lambda *a: contribute(*a) + bytes(8))
        found("another size than its layout")

    def test_a_label_release_that_is_not_sealed(self, monkeypatch, found):
        monkeypatch.setattr(label_owner, "seal", lambda plain, *_: plain)
        monkeypatch.setattr("fedprofile.node.party.unseal", lambda sealed, *_: sealed)
        found("another size than sealed ones")

    def test_a_release_of_the_right_size_that_is_not_sealed(self, monkeypatch, found):
        monkeypatch.setattr(label_owner, "seal", lambda plain, *_: plain + bytes(48))
        monkeypatch.setattr("fedprofile.node.party.unseal", lambda sealed, *_: sealed[:-48])
        found("(labels|slots) of bank crossed")

    @pytest.mark.nightly
    def test_a_letter_of_an_alignment_that_is_not_sealed(self, monkeypatch, found):
        monkeypatch.setattr(aligning, "seal", lambda plain, *_: plain)
        monkeypatch.setattr(aligning, "unseal", lambda sealed, *_: sealed)
        found("another size than a sealed letter")

    @pytest.mark.parametrize(
        "letter", ["points", *(pytest.param(letter, marks=pytest.mark.nightly) for letter in ("answer", "views"))]
    )
    def test_a_letter_of_the_right_size_that_is_not_sealed(self, monkeypatch, found, letter):
        sealed_as_it_is, unsealed_as_it_is = aligning.seal, aligning.unseal
        chosen = bytes([TYPES.index(letter)])

        def seal(plain, *words):
            return plain + bytes(48) if plain[4:5] == chosen else sealed_as_it_is(plain, *words)

        def unseal(sealed, *words):
            return sealed[:-48] if sealed[:4] == b"fpa1" else unsealed_as_it_is(sealed, *words)

        monkeypatch.setattr(aligning, "seal", seal)
        monkeypatch.setattr(aligning, "unseal", unseal)
        found("a blinded id of shop-1 crossed|a pseudonym of bank crossed|whom .* of bank crossed")

    @pytest.mark.nightly
    def test_a_list_of_a_union_that_is_not_sealed(self, monkeypatch, found):
        sealed_as_it_is, unsealed_as_it_is = aligning.seal, aligning.unseal
        chosen = bytes([TYPES.index("list")])
        plain = lambda text, *words: text + bytes(48) if text[4:5] == chosen else sealed_as_it_is(text, *words)  # noqa: E731
        unseal = lambda data, *words: data[:-48] if data[:4] == b"fpa1" else unsealed_as_it_is(data, *words)  # noqa: E731
        monkeypatch.setattr(aligning, "seal", plain)
        monkeypatch.setattr(aligning, "unseal", unseal)
        found("a blinded id of .* crossed", "align=union")

    @pytest.mark.nightly
    def test_a_customer_among_the_names_of_a_union(self, monkeypatch, found):
        """In the place of a random name that pads the list; the coordinator would take it."""
        named = uniting.Uniting.names

        def leaky(self, sealed):
            return named(self, sealed)[:-16] + str(self.ids()[1][0]).encode().rjust(16, b"\xff")

        monkeypatch.setattr(uniting.Uniting, "names", leaky)
        found("names of .* are not its names", "align=union")

    @pytest.mark.nightly
    def test_how_many_customers_a_list_of_a_union_holds(self, monkeypatch, found):
        count = lambda node, e: replace(e, body={"size": len(node.run.home.path.name)})  # noqa: E731
        self.reply(monkeypatch, "listed", count, party="tax")
        found("body of listed", "align=union")

    def test_a_message_that_the_egress_ledger_does_not_list(self, monkeypatch, found):
        sent = NodeAudit.sent

        def forgetful(self, asked, reply, plan, roster):
            if asked != "bins":
                sent(self, asked, reply, plan, roster)

        monkeypatch.setattr(NodeAudit, "sent", forgetful)
        found("another message")

    def test_an_audit_head_that_is_none(self, monkeypatch, found):
        """Thirty-two free bytes in every upload would be a way out."""
        monkeypatch.setattr(NodeAudit, "head", property(lambda self: self._log.identity.mac("free bytes", b"")))
        found("not the head before this message")

    def test_an_unpadded_list(self, monkeypatch, found):
        """Its length would say how many customers a partner has."""
        for module in (letters, psi):
            monkeypatch.setattr(module, "size_class", lambda n: n)
        found("another size than a sealed letter")

    def test_a_count_of_customers_beside_the_spine(self, monkeypatch, found):
        count = lambda _, e: replace(e, body=e.body | {"customers": 600})  # noqa: E731
        self.reply(monkeypatch, "spine", count)
        found("body of spine")

    def test_an_entry_beside_the_envelope(self, monkeypatch, found):
        record = lambda data: RecordDict({"fedprofile": ConfigRecord({"envelope": data, "loss": 0.5})})  # noqa: E731
        monkeypatch.setattr(client_app, "pack", record)
        found("more than the envelope")

    @pytest.mark.nightly
    def test_metadata(self, monkeypatch, found):
        message = client_app.Message

        def leaky(*args, **words):
            reply = message(*args, **words)
            reply.metadata.__dict__["_group_id"] = "EXAMPLE-0001"
            return reply

        monkeypatch.setattr(client_app, "Message", leaky)
        found("more than routing")

    def test_an_exception_in_the_client_app(self, monkeypatch, found):
        monkeypatch.setattr(client_app, "_node", lambda _: (_ for _ in ()).throw(ValueError("EXAMPLE-0001")))
        found("error crossed")
