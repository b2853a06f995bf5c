"""What both sides check in a set-up, and a node's own part of it (section 5.4)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.keys import Ephemeral, PairKeys, commitment, transcript_hash
from fedprofile.secagg.setup_messages import KeyAd, KeyBundle, KeyOpen, OpenBundle, SetupReq
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
    values = [v for ad in ads for v in (ad.pk_mask, ad.pk_enc, ad.commit)]
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


def _check_senders(request: SetupReq, messages: tuple[KeyAd, ...] | tuple[KeyOpen, ...]) -> None:
    senders = tuple(m.party for m in messages)
    if senders != request.cohort:
        missing = sorted(set(request.cohort) - set(senders))
        raise remote("missing_member", f"missing: {', '.join(missing)}" if missing else "other members than the cohort")


@dataclass
class Handshake:
    """One node's set-up, from SetupReq to pair keys. Holds its secrets in memory only."""

    roster: Roster
    me: str
    request: SetupReq
    secrets: Ephemeral | None
    bundle: KeyBundle | None = None
    opens: OpenBundle | None = None

    def key_ad(self, identity: Identity) -> KeyAd:
        """This node's signed advertisement for this set-up."""
        secrets = self._live()
        unsigned = KeyAd(self.request.run_id, self.me, sha256(self.request.encode()), *secrets.public, secrets.commit)
        return unsigned.signed(identity)

    def accept_bundle(self, bundle: KeyBundle) -> None:
        """Checks the bundle, this node's own entry first: it has to hold the keys that this node drew."""
        check_ads(self.roster, self.request, bundle.items)
        mine = next(ad for ad in bundle.items if ad.party == self.me)
        if (mine.pk_mask, mine.pk_enc, mine.commit) != (*self._live().public, self._live().commit):
            raise remote("restore_mismatch", "the bundle holds other keys for this node")
        self.bundle = bundle

    def key_open(self, identity: Identity) -> KeyOpen:
        if self.bundle is None:
            raise local("wrong_state")
        unsigned = KeyOpen(self.request.run_id, self.me, self._live().nonce, sha256(self.bundle.encode()))
        return unsigned.signed(identity)

    def accept_opens(self, opens: OpenBundle) -> tuple[bytes, PairKeys, X25519PrivateKey]:
        """(T0, pair keys at base_t, sealing key). The mask key is dropped here; raises as check_opens does."""
        if self.bundle is None:
            raise local("wrong_state")
        check_opens(self.roster, self.request, self.bundle, opens.items)
        t0 = transcript_hash(self.bundle.items, opens.items)
        peers = {ad.party: ad.pk_mask for ad in self.bundle.items if ad.party != self.me}
        secrets = self._live()
        keys = PairKeys.agree(self.me, secrets.mask, peers, t0, self.request.base_t)
        self.opens, self.secrets = opens, None
        return t0, keys, secrets.enc

    def _live(self) -> Ephemeral:
        if self.secrets is None:
            raise local("wrong_state", "the set-up is over")
        return self.secrets
