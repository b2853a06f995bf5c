"""What both sides check in a set-up, and a node's own part of it (section 5.4)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.keys import Ephemeral, PairKeys, commitment, encapsulate, transcript_hash
from fedprofile.secagg.open_messages import KeyOpen, OpenBundle
from fedprofile.secagg.setup_messages import KeyAd, KeyBundle, SetupReq
from fedprofile.types import Roster


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def check_ads(roster: Roster, request: SetupReq, ads: tuple[KeyAd, ...]) -> None:
    """The cohort exactly, each signed under the pinned key, all for this SetupReq, no key or commitment twice."""
    _check_senders(request, ads)
    setup_hash = sha256(request.encode())
    for ad in ads:
        ad.verify(roster)
        if (ad.run_id, ad.setup_hash) != (request.run_id, setup_hash):
            raise remote("wrong_setup", f"party {ad.party!r} answered another SetupReq")
        if bool(ad.kem_pk) != request.hybrid:
            raise remote("kem_mismatch", f"party {ad.party!r}")
    values = [v for ad in ads for v in (ad.pk_mask, ad.pk_enc, ad.commit, ad.kem_pk) if v]
    if len(set(values)) != len(values):
        raise remote("duplicate", "key or commitment")


def check_opens(roster: Roster, request: SetupReq, bundle: KeyBundle, opens: tuple[KeyOpen, ...]) -> None:
    """The cohort exactly, each signed, all for this bundle, every commitment opened."""
    _check_senders(request, opens)
    bundle_hash = sha256(bundle.encode())
    for ad, opened in zip(bundle.items, opens, strict=True):
        opened.verify(roster)
        if (opened.run_id, opened.bundle_hash) != (request.run_id, bundle_hash):
            raise remote("wrong_setup", f"party {opened.party!r} saw another KeyBundle")
        if commitment(opened.nonce) != ad.commit:
            raise remote("bad_commitment", f"party {opened.party!r}")
        expected = len(later(request.cohort, opened.party)) if request.hybrid else None
        if (None if opened.kem_hashes is None else len(opened.kem_hashes)) != expected:
            raise remote("bad_ciphertext", f"party {opened.party!r}")


def check_ciphertexts(request: SetupReq, opens: tuple[KeyOpen, ...]) -> None:
    """The coordinator's check of a hybrid set-up: one ciphertext for each later member, as signed."""
    for opened in opens:
        receivers = tuple(p for p, _ in opened.ciphertexts)
        hashes = tuple(sha256(c) for _, c in opened.ciphertexts)
        if request.hybrid and (receivers, hashes) != (later(request.cohort, opened.party), opened.kem_hashes):
            raise remote("bad_ciphertext", f"party {opened.party!r}")


def later(cohort: tuple[str, ...], party: str) -> tuple[str, ...]:
    """Whom a member encapsulates to: those after it in wire order."""
    return cohort[cohort.index(party) + 1 :]


def _check_senders(request: SetupReq, messages: tuple[KeyAd, ...] | tuple[KeyOpen, ...]) -> None:
    senders = tuple(m.party for m in messages)
    if senders != request.cohort:
        missing = sorted(set(request.cohort) - set(senders))
        raise remote("missing_member", f"missing: {', '.join(missing)}" if missing else "other members than the cohort")


@dataclass(frozen=True)
class Agreed:
    """What a set-up leaves: T0, pair keys at base_t, the sealing key, and the ML-KEM secret shared with each peer."""

    t0: bytes
    keys: PairKeys
    seal: X25519PrivateKey
    kem: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass
class Handshake:
    """One node's set-up, from SetupReq to pair keys. Holds its secrets in memory only."""

    roster: Roster
    me: str
    request: SetupReq
    secrets: Ephemeral | None
    bundle: KeyBundle | None = None
    opens: OpenBundle | None = None
    kem: dict[str, bytes] = field(default_factory=dict, repr=False)

    def key_ad(self, identity: Identity) -> KeyAd:
        """This node's signed advertisement for this set-up."""
        secrets = self._live()
        unsigned = KeyAd(self.request.run_id, self.me, sha256(self.request.encode()), *secrets.public, secrets.commit)
        return replace(unsigned, kem_pk=secrets.kem_pk).signed(identity)

    def accept_bundle(self, bundle: KeyBundle) -> None:
        """Checks the bundle, this node's own entry first: it has to hold the keys that this node drew."""
        check_ads(self.roster, self.request, bundle.items)
        mine = next(ad for ad in bundle.items if ad.party == self.me)
        secrets = self._live()
        if (mine.pk_mask, mine.pk_enc, mine.commit, mine.kem_pk) != (*secrets.public, secrets.commit, secrets.kem_pk):
            raise remote("restore_mismatch", "the bundle holds other keys for this node")
        self.bundle = bundle

    def key_open(self, identity: Identity) -> KeyOpen:
        """This node's signed opening; in a hybrid set-up with a ciphertext for each later member."""
        if self.bundle is None:
            raise local("wrong_state")
        opened = KeyOpen(self.request.run_id, self.me, self._live().nonce, sha256(self.bundle.encode()))
        if self.request.hybrid:
            ciphertexts = []
            for ad in self.bundle.items:
                if ad.party in later(self.request.cohort, self.me):
                    self.kem[ad.party], ciphertext = encapsulate(ad.kem_pk, ad.party)
                    ciphertexts.append((ad.party, ciphertext))
            hashes = tuple(sha256(c) for _, c in ciphertexts)
            opened = replace(opened, kem_hashes=hashes, ciphertexts=tuple(ciphertexts))
        return opened.signed(identity)

    def accept_opens(self, opens: OpenBundle) -> Agreed:
        """What the set-up agreed; the mask key is dropped here. Raises as check_opens does, or bad_ciphertext."""
        if self.bundle is None:
            raise local("wrong_state")
        check_opens(self.roster, self.request, self.bundle, opens.items)
        t0 = transcript_hash(self.bundle.items, opens.items)
        peers = {ad.party: ad.pk_mask for ad in self.bundle.items if ad.party != self.me}
        secrets, kem = self._live(), self._decapsulate(opens)
        keys = PairKeys.agree(self.me, secrets.mask, peers, t0, self.request.base_t, kem=kem)
        self.opens, self.secrets, self.kem = replace(opens, ciphertexts=()), None, {}
        return Agreed(t0, keys, secrets.enc, kem)

    def _decapsulate(self, opens: OpenBundle) -> dict[str, bytes]:
        """Peer -> ML-KEM secret: of earlier members from their ciphertexts, as signed; of later ones this node's."""
        key, at = self._live().kem, self.request.cohort.index(self.me)
        earlier = self.request.cohort[:at] if key is not None else ()
        if tuple(p for p, _ in opens.ciphertexts) != earlier:
            raise remote("bad_ciphertext", "other senders than the earlier members")
        kem = dict(self.kem)
        for i, (party, ciphertext) in enumerate(opens.ciphertexts):
            hashes = opens.items[i].kem_hashes or ()
            if key is None or sha256(ciphertext) != hashes[at - i - 1]:
                raise remote("bad_ciphertext", f"party {party!r}")
            kem[party] = key.decapsulate(ciphertext)
        return kem

    def _live(self) -> Ephemeral:
        if self.secrets is None:
            raise local("wrong_state", "the set-up is over")
        return self.secrets
