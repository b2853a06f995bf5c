"""For each rule about repeating a sum: what an adversary reads where the rule is off, and the refusal where it is on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import PolicyRefusal, ProtocolError, RemoteProtocolError
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.encoding import pack, quantise, vectors
from fedprofile.secagg.identity import Identity, sign_roster, verify_roster
from fedprofile.secagg.masking import add_masks
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.server import ServerSession
from fedprofile.types import Layout, Party, Quantised, Roster, Segment

COUNTS = Layout((Segment("counts", (64,), 32, 1000.0, 1.0),))


def counts_of(fed):
    """Every node's counts, the same whenever they are asked for."""
    rng = np.random.default_rng(3)
    return {p: Quantised({"counts": rng.integers(0, 900, 64).astype(np.uint32)}) for p in fed.names}


def opened(fed, t, cohort, values):
    data = fed.server.round(fed.id("stats", t), cohort, COUNTS, b"")
    return fed.server.open(fed.id("stats", t), fed.uploads(data, {p: values[p] for p in cohort})).values["counts"]


class TestDifferencing:
    """9.5: two cohorts of one kind differ by nobody or by colluders + 2. One run has one roster, so it takes two runs."""

    def second_run(self, federate, remember):
        """Counts of a run over five nodes, their sum, and a second run without one of them.

        ``remember``: whether its nodes have the journal of the first.
        """
        fed = federate(5).set_up()
        values = counts_of(fed)
        whole = opened(fed, 0, fed.names, values)
        later = federate(4, run=b"\2" * 32)
        later.nodes = {p: later.session(p, history=fed.journals[p] if remember else ()) for p in later.names}
        return values, whole, later.set_up()

    def test_without_the_journal_two_sums_give_one_nodes_counts_away(self, federate):
        values, whole, later = self.second_run(federate, remember=False)
        rest = opened(later, 0, later.names, values)
        assert (whole - rest == values["tax4"].values["counts"]).all()

    def test_with_it_no_member_of_both_takes_part(self, federate):
        _, _, later = self.second_run(federate, remember=True)
        data = later.server.round(later.id("stats", 0), later.names, COUNTS, b"")
        for node in later.nodes.values():
            with pytest.raises(PolicyRefusal, match="differencing"):
                node.verify_round(data)


class TestRetry:
    """9.3: every attempt of a round is a query about the same integers."""

    ATTEMPTS = 60
    LAYOUT = Layout((Segment("w", (400,), 16, 1.0, 2**-4),))

    def sums(self, fed, byte_stream, fresh):
        """The sum of one set of values, opened in many attempts, and the truth; ``fresh`` rounds anew each time."""
        truth = {p: np.random.default_rng(i).uniform(-1, 1, 400) for i, p in enumerate(fed.names)}
        found = []
        for attempt in range(self.ATTEMPTS):
            seed = attempt if fresh else 0
            values = {p: quantise({"w": v}, self.LAYOUT, byte_stream(f"{seed}{p}")) for p, v in truth.items()}
            data = fed.server.round(fed.id(attempt=attempt), fed.names, self.LAYOUT, b"")
            if fresh:
                for node in fed.nodes.values():  # a node that does not know its own integers again
                    node._record.mac_of_retry = lambda _: ""
            found.append(fed.server.open(fed.id(attempt=attempt), fed.uploads(data, values)).values["w"])
        return np.array(found), sum(truth.values())

    def test_rounding_anew_lets_attempts_average_the_rounding_away(self, federate, byte_stream):
        found, truth = self.sums(federate(3).set_up(), byte_stream, fresh=True)
        once, averaged = (np.abs(v - truth).mean() for v in (found[0], found.mean(axis=0)))
        assert averaged < once / 4  # 1 / sqrt(60) is an eighth

    def test_the_same_integers_say_the_same_however_often(self, federate, byte_stream):
        found, _ = self.sums(federate(3).set_up(), byte_stream, fresh=False)
        assert (found == found[0]).all()


class TestOnePadOnce:
    """9.4 and 5.6: one upload a (t, attempt), also after a crash or a restored snapshot."""

    def two_uploads(self, fed, history):
        """Of two different vectors for one (t, attempt), by a node and by a copy that knows ``history``."""
        a, b = (fed.integers(COUNTS, seed)["tax1"] for seed in (1, 2))
        data = fed.server.round(fed.id("stats"), fed.names, COUNTS, b"")
        transcript = fed.nodes["tax1"].transcript()
        first = fed.upload("tax1", data, a)
        copy = ClientSession.restore(transcript, *fed.arguments("tax1"), history=history())
        second = copy.contribute(copy.verify_round(data), b)
        ys = [vectors(bytes(Upload.decode(u, fed.roster).y), COUNTS)[32] for u in (first, second)]
        return ys[0] - ys[1], vectors(pack(a, COUNTS), COUNTS)[32] - vectors(pack(b, COUNTS), COUNTS)[32]

    def test_a_snapshot_without_the_journal_shows_the_difference_of_two_vectors(self, federate):
        seen, truth = self.two_uploads(federate(3).set_up(), lambda: ())
        assert (seen == truth).all()

    def test_the_journal_refuses_the_second(self, federate):
        fed = federate(3).set_up()
        with pytest.raises(RemoteProtocolError, match="stale_round"):
            self.two_uploads(fed, lambda: list(fed.journals["tax1"]))


class TestRoster:
    """9.3 and 9.6: a run has one roster, and its members alone can change it."""

    def sybils(self, fed):
        """A second version in which the coordinator holds every key but one; only the coordinator signed it."""
        ids = {p: Identity.from_seed(p.encode().ljust(32, b"s")) for p in ("s1", "s2", "s3")}
        kept = fed.roster.party("tax1")
        parties = (kept, *(Party(p, p, "tax", ids[p].sign_pk) for p in ids))
        roster = sign_roster(Roster(2, fed.roster.hash, parties, "s1"), ids)
        return ids, roster

    def test_a_node_that_takes_any_roster_is_summed_with_nobody(self, federate, byte_stream):
        fed = federate(4)
        ids, roster = self.sybils(fed)
        names = ("tax1", *ids)
        server = ServerSession(bytes(32), roster, fed.policy, names)
        owners = {"tax1": fed.ids["tax1"], **ids}
        nodes = {
            p: ClientSession(owners[p], p, roster, fed.policy, byte_stream(p), lambda _: None) for p in names
        }  # fmt: skip
        request = server.setup_request()
        bundle = server.key_bundle({p: n.handle(request) for p, n in nodes.items()})
        opens = server.open_bundle({p: n.handle(bundle) for p, n in nodes.items()})
        for node in nodes.values():
            node.handle(opens)
        mine, nothing = counts_of(fed)["tax1"], Quantised({"counts": np.zeros(64, np.uint32)})
        id = replace(fed.id("stats"), run_id=bytes(32))
        data = server.round(id, names, COUNTS, b"")
        uploads = {p: n.contribute(n.verify_round(data), mine if p == "tax1" else nothing) for p, n in nodes.items()}
        assert (server.open(id, uploads).values["counts"] == mine.values["counts"]).all()

    def test_without_the_old_members_signatures_no_roster_is_one(self, federate):
        fed = federate(4)
        _, roster = self.sybils(fed)
        with pytest.raises(RemoteProtocolError, match="unsigned_roster"):
            verify_roster(roster, fed.roster)

    def test_a_run_keeps_the_roster_that_its_nodes_pinned(self, federate):
        fed = federate(4)
        _, roster = self.sybils(fed)
        server = ServerSession(bytes(32), roster, fed.policy, tuple(p.id for p in roster.parties))
        with pytest.raises(ProtocolError) as refused:
            fed.nodes["tax1"].handle(server.setup_request())
        assert refused.value.code in ("unknown_party", "wrong_roster")


class TestRushing:
    """Why a round has no commit phase: 9.3's retry tells a member on the coordinator's side what it would commit blindly.

    "bank" is on the coordinator's side. The honest send what they have; it picks what the sum is to be.
    """

    N, CLIP = 4, 0.5
    LAYOUT = Layout((Segment.fitted("w", (200,), 16, CLIP, N),))

    def honest_sum(self, fed, data, values):
        """What coordinator and bank read from one attempt, before the bank has said anything about its own vector."""
        round = fed.nodes["bank"].verify_round(data)
        ys = [
            vectors(bytes(Upload.decode(u, fed.roster).y), self.LAYOUT)[16] for u in fed.uploads(data, values).values()
        ]
        total = {16: np.sum(ys, axis=0, dtype=np.uint16)}
        add_masks(total, fed.nodes["bank"]._ready().pads(fed.nodes["bank"].bound(round), round.cohort))
        return total[16]

    def forged(self, fed, data, integers):
        """An Upload of any integers, which the bank's own session would refuse to make."""
        bank, round = fed.nodes["bank"], Round.decode(data, fed.roster)
        h, y = bank.bound(round), pack(Quantised({"w": integers}), self.LAYOUT)
        add_masks(vectors(y, self.LAYOUT), bank._ready().pads(h, round.cohort))
        return Upload.of(round, "bank", h, bytes(32), y, fed.ids["bank"]).encode()

    @pytest.mark.parametrize("commit", [False, True])
    def test_the_sum_is_what_the_last_one_wants(self, federate, commit):
        """With ``commit`` its upload of the second attempt is fixed before anybody else's is there."""
        fed = federate(self.N).set_up()
        values = {p: q for p, q in fed.integers(self.LAYOUT).items() if p != "bank"}
        target = np.random.default_rng(1).integers(0, 1 << 16, 200).astype(np.uint16)
        first = fed.server.round(fed.id(), fed.names, self.LAYOUT, b"m")
        seen = self.honest_sum(fed, first, values)
        assert (seen == np.sum([q.values["w"] for q in values.values()], axis=0, dtype=np.uint16)).all()
        id = fed.id(attempt=1)
        data = fed.server.round(id, fed.names, self.LAYOUT, b"m")
        fed.nodes["bank"].verify_round(data)
        if commit:
            fed.server.add(id, "bank", self.forged(fed, data, target - seen))
            opened = fed.server.open(id, fed.uploads(data, values)).values["w"]
        else:
            sent = fed.uploads(data, values)
            opened = fed.server.open(id, sent | {"bank": self.forged(fed, data, target - seen)}).values["w"]
        scale = self.LAYOUT.segments[0].scale
        assert (np.rint(opened / scale).astype(np.int64).astype(np.uint16) == target).all()
        # all that bounds it is the ring, which the plan fits to the round's clip: the mean moves by that much at most
        assert np.abs(opened).max() / self.N < self.CLIP * 1.001
