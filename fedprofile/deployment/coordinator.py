"""What the operator of the coordinator does: enrol parties, run trainings, look at them. Thin over the rooms below.

Beside what ``fedprofile.flower.superlink`` keeps, a coordinator's folder holds::

    overrides.json     the settings that the federation's policy was made from, for every run
    requests/          one signed request a party
    proposal.json      the next roster with the signatures that have come in
    invitation.json    the same, with policy, certificate and address: what goes out to be signed
    roster.json        the roster in force
    audit.jsonl        the coordinator's audit log, with audit.head, audit.key, audit.lock (coordinator/audit.py)
    runs/NAME/         one training: .hydra/config.yaml, job.json, checkpoint, outcome.json, flower_run
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.config.compose import compose, config_hash, read, save
from fedprofile.config.planning import FederationFacts, NodeFacts, make_learning, make_plan, make_policy
from fedprofile.config.schema import Config
from fedprofile.coordinator.audit import POINTER, CoordinatorLog, failed
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.enrolment import (
    Document,
    Invitation,
    Request,
    RosterSignature,
    electors,
    next_roster,
    read_document,
    write_document,
)
from fedprofile.errors import ConfigError, DeploymentError, FedprofileError, ProtocolError, UsageError
from fedprofile.files import replace_private
from fedprofile.flower.node_key import load_public, public_line
from fedprofile.governance.audit_coordinator import (
    Certified,
    Change,
    Removed,
    Requested,
    RosterInForce,
    Stopped,
    Submitted,
)
from fedprofile.secagg.identity import ROSTER_TYPE, verify, verify_roster
from fedprofile.secagg.setup_messages import KEMS, PROFILES
from fedprofile.types import Policy, Roster, RunPlan, Weights

if TYPE_CHECKING:
    from fedprofile.flower.superlink import SuperLink

PORT = 9443
FLOWER_RUN = "flower_run"
PROGRESS, FAILURE = "progress.json", "failure.json"
"""What a training's ServerApp leaves in its folder."""
_RESUME = "Go on with it: `fedprofile coordinator resume`."


@dataclass(frozen=True)
class Enrolled:
    """What a document changed: the roster version that is proposed or in force, and whose signature it still lacks.

    ``roster`` is None while no party asks to be the label owner; ``refused`` says why.
    """

    document: str
    party: str
    fingerprint: str
    roster: Roster | None
    missing: tuple[str, ...]
    refused: str = ""


class Coordinator:
    """A coordinator's folder."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for a folder that ``create`` did not make."""
        from fedprofile.flower.superlink import SuperLink

        self.link: SuperLink = SuperLink(folder)
        self.folder = self.link.folder

    @staticmethod
    def create(
        folder: Path, federation: str, names: Sequence[str], host: str, port: int, overrides: Sequence[str]
    ) -> Coordinator:
        """``names`` are what nodes dial, the first one in the invitation. Raises ConfigError for a bad override."""
        from fedprofile.flower.superlink import SuperLink

        compose(overrides)
        SuperLink.create(folder, federation, names, host, port)
        made = Coordinator(folder)
        made.log.write(Certified("made", made.link.authority.fingerprint()))
        (made.folder / "requests").mkdir(exist_ok=True)
        made._write("overrides.json", {"overrides": list(overrides), "dialled": names[0] if names else host})
        return made

    @cached_property
    def log(self) -> CoordinatorLog:
        """Begun here for a folder that was made before there was one. Raises DataError for one that was changed."""
        return CoordinatorLog(self.folder)

    # -- who takes part --------------------------------------------------------------------------
    def enrol(self, path: Path) -> Enrolled:
        """Take a node's request, or a member's signature of the proposed roster.

        Raises UsageError for a document that does not fit.
        """
        document: Document = read_document(path)
        if isinstance(document, Request):
            return self._enrol_request(document.verified())
        if isinstance(document, RosterSignature):
            return self._enrol_signature(document)
        raise UsageError(f"{path} is an invitation", "A node signs it: `fedprofile node sign-roster HOME FILE`.")

    def _enrol_request(self, request: Request) -> Enrolled:
        if request.release != version("fedprofile"):
            what = f"{request.party!r} runs fedprofile {request.release}, the coordinator {version('fedprofile')}"
            raise UsageError(what, "Install the same release on both sides.")
        roster = self.roster()
        pinned = {p.id: p.sign_pk for p in roster.parties} if roster else {}
        if pinned.get(request.party, request.sign_pk) != request.sign_pk:
            # anybody can write a request that names a member, and no roster moves a name to another key
            what = f"{request.party!r} is in the roster with another identity"
            raise UsageError(what, "A new identity takes a new name; remove the old one.")
        self._check_key(request)
        held = self.requests().get(request.party)
        self.log.write(Requested(request.party, request.role, request.sign_pk.hex(), request.fingerprint))
        write_document(self.folder / "requests" / f"{request.wire_name}.json", request)
        renewed = {"flower_key": request.flower_key, "release": request.release, "signature": request.signature}
        same = held is not None and replace(held, **renewed) == request
        if same and roster is not None and request.party in {p.id for p in roster.parties}:
            # a new key for dialling or a new release; the identity is the old one, so the roster stays
            if self.link.running:
                self.admit()
            return Enrolled("request", request.party, request.fingerprint, roster, ())
        return self._propose(self.requests(), Enrolled("request", request.party, request.fingerprint, None, ()))

    def _check_key(self, request: Request) -> None:
        """Raises UsageError for a Flower key that SuperLink would not take."""
        key, again = request.flower_key, "Have the node make another: `fedprofile node rotate`."
        try:
            whole = public_line(load_public(key.encode())).decode() == key
        except DeploymentError:
            whole = False
        if not whole:
            raise UsageError(f"{request.party!r} names no Flower key", again)
        held = {r.party: r.flower_key for r in self.requests().values()}
        known = {party: r.public_key for party, r in self.link.registered().items()}
        if key in {k for keys in (held, known) for party, k in keys.items() if party != request.party}:
            raise UsageError(f"{request.party!r} names a Flower key of another party", again)
        if key in self.link.retired():
            raise UsageError(f"{request.party!r} names a Flower key that was retired", again)

    def remove(self, party: str) -> Enrolled:
        """Let a node in no more, from now on, and propose a roster without it, which it has to sign as well."""
        requests = self.requests()
        if party not in requests:
            raise UsageError(f"no party {party!r} is enrolled", f"Enrolled: {', '.join(requests) or 'none'}.")
        self.log.write(Removed(party))
        (self.folder / "requests" / f"{requests.pop(party).wire_name}.json").unlink()
        if self.link.running:
            self.admit()
        return self._propose(requests, Enrolled("removal", party, "", None, ()))

    def propose(self) -> Enrolled:
        """The next roster version with the same parties: for them to sign an invitation that says something new."""
        return self._propose(self.requests(), Enrolled("proposal", "", "", None, ()))

    def _propose(self, requests: dict[str, Request], about: Enrolled) -> Enrolled:
        """A new proposal; signatures of an older one are void, for they were of another roster."""
        (self.folder / "proposal.json").unlink(missing_ok=True)
        (self.folder / "invitation.json").unlink(missing_ok=True)
        try:
            roster = next_roster(self.roster(), requests)
            policy = self._policy(self.facts(roster))
        except (UsageError, ConfigError) as error:
            return replace(about, refused=str(error))
        self._write("proposal.json", roster.to_json())
        write_document(self.folder / "invitation.json", self._invitation(roster, policy))
        return replace(about, roster=roster, missing=electors(roster, self.roster()))

    def _enrol_signature(self, document: RosterSignature) -> Enrolled:
        proposal, before = self.proposal(), self.roster()
        if proposal is None or document.roster != proposal.hash:
            raise UsageError(
                f"{document.party!r} signed another roster than the proposed one", "Send the invitation again."
            )
        keys = {p.id: p.sign_pk for r in (before, proposal) if r is not None for p in r.parties}
        try:
            verify(keys[document.party], ROSTER_TYPE, proposal.hash, document.signature)
        except (KeyError, ProtocolError):
            raise UsageError(
                f"this is no signature of {document.party!r}", "Ask for the file as the node wrote it."
            ) from None
        signatures = {**dict(proposal.signatures), document.party: document.signature}
        signed = replace(proposal, signatures=tuple(sorted(signatures.items())))
        missing = tuple(p for p in electors(signed, before) if p not in signatures)
        about = Enrolled("signature", document.party, "", signed, missing)
        if missing:
            self._write("proposal.json", signed.to_json())
            return about
        verify_roster(signed, before)
        policy = self._read_invitation().policy
        parties = tuple(p.id for p in signed.parties)
        self.log.write(RosterInForce(signed.version, signed.hash.hex(), policy.hash.hex(), parties))
        self._write("policy.json", policy.to_json())
        self._write("roster.json", signed.to_json())
        (self.folder / "proposal.json").unlink()
        if self.link.running:
            self.admit()
        return about

    def admit(self) -> None:
        """Make SuperLink let in exactly the nodes of the roster in force, with the keys of their last requests.

        Raises DeploymentError that names the parties with which this failed, once all others are done.
        """
        roster, requests = self.roster(), self.requests()
        members = {p.id: requests[p.id] for p in roster.parties if p.id in requests} if roster else {}
        pinned = {p.id: p.sign_pk for p in roster.parties} if roster else {}
        keys = {party: r.flower_key for party, r in members.items() if r.sign_pk == pinned[party]}
        registered, failed = self.link.registered(), []
        for party in sorted(registered.keys() | keys.keys()):
            try:
                if party in registered and registered[party].public_key != keys.get(party):
                    self.link.unregister(party)
                if party in keys:
                    self.link.register(party, keys[party].encode())
            except FedprofileError as error:
                failed.append(f"{party}: {error.what}")
        if failed:
            what = f"SuperLink does not let in whom the roster names ({'; '.join(failed)})"
            raise DeploymentError(what, "Enrol new requests of these parties, with new keys.")

    def requests(self) -> dict[str, Request]:
        found = [read_document(p) for p in sorted((self.folder / "requests").glob("*.json"))]
        return {r.party: r for r in found if isinstance(r, Request)}

    def roster(self) -> Roster | None:
        return self._read_roster("roster.json")

    def proposal(self) -> Roster | None:
        return self._read_roster("proposal.json")

    def facts(self, roster: Roster) -> FederationFacts:
        """What plans are made from, in the roster's order. Raises UsageError once a member of it was removed."""
        requests = self.requests()
        if missing := [p.id for p in roster.parties if p.id not in requests]:
            what = f"the roster still names {', '.join(missing)}, whose request is removed"
            raise UsageError(what, "Enrol the signatures of the next roster first.")
        nodes = tuple(NodeFacts(p.id, p.role, requests[p.id].schema, requests[p.id].levels) for p in roster.parties)
        owner = requests[roster.label_owner]
        return FederationFacts(roster.label_owner, owner.tasks, nodes, owner.many_rows)

    def _policy(self, facts: FederationFacts) -> Policy:
        return make_policy(compose(self._overrides()["overrides"]), facts)

    def _overrides(self) -> dict[str, Any]:
        held: dict[str, Any] = json.loads((self.folder / "overrides.json").read_text())
        return held

    def _invitation(self, roster: Roster, policy: Policy) -> Invitation:
        from fedprofile.flower.app_bundle import fab_hash

        settings = self.link.settings
        ca = self.link.authority.certificate.read_text()
        address = f"{self._overrides()['dialled']}:{settings.port}"
        place, key = (address, ca, fab_hash()), self.log.key.hex()
        return Invitation(settings.federation, roster, policy, *place, key, self.roster())

    def change_certificates(self, change: Change) -> bool:
        """Renew, rotate or retire (``Authority``); whether that changed an invitation that is out to be signed."""
        authority = self.link.authority
        {"renewed": authority.renew, "rotated": authority.rotate, "retired": authority.retire}[change]()
        self.log.write(Certified(change, authority.fingerprint()))
        return self.renew_invitation()

    def renew_invitation(self) -> bool:
        """Say in it what the certificates are now, where one is out to be signed; whether that changed it."""
        if self.proposal() is None:
            return False
        held = self._read_invitation()
        now = self._invitation(held.roster, held.policy)
        write_document(self.folder / "invitation.json", now)
        return now != held

    def _read_invitation(self) -> Invitation:
        document = read_document(self.folder / "invitation.json")
        assert isinstance(document, Invitation)
        return document

    # -- trainings -------------------------------------------------------------------------------
    def prepare(self, overrides: Sequence[str], start: str | None = None) -> Path:
        """Write the job of a new training; returns its folder.

        ``start``: the earlier training from whose shared weights it begins (``trained``). Nodes take them where they
        recomputed them, so each has to have finished that training.
        Raises ConfigError for overrides that change limits, DeploymentError while nothing serves, and as ``trained``.
        """
        roster = self.roster()
        if roster is None:
            raise UsageError("no roster is in force", "Enrol all parties, and their signatures.")
        config = compose([*self._overrides()["overrides"], *overrides])
        facts, policy = self.facts(roster), Policy.from_json(json.loads((self.folder / "policy.json").read_text()))
        if make_policy(config, facts) != policy:
            what = "would change the federation's policy, which all members have pinned"
            raise ConfigError("secure, privacy.min_release, align.max_points", what, "Leave them as they are at init.")
        make_learning(config, facts, policy)
        begun = None if start is None else self.trained(start)
        plan = make_plan(config, facts, roster, policy, os.urandom(32), begun)
        self._check_serving()
        folder = self.folder / "runs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        folder.mkdir(parents=True)
        profile = next(p for p in PROFILES if p == config.secure.profile)
        kem = next(k for k in KEMS if k == config.secure.kem)
        save(config, folder)
        if begun is not None:
            CheckpointStore(folder).begin_from(begun)
        (folder / "job.json").write_text(Job(plan, roster, policy, profile, kem).to_json())
        return folder

    def trained(self, name: str) -> Weights:
        """Trunk and heads of a finished training, by its name or the beginning of its plan's hash, as bundles hold it.

        Raises UsageError where there is none such, several, or where not all nodes shared and recomputed them.
        """
        jobs = {p.parent: Job.from_json(p.read_text()).plan for p in sorted((self.folder / "runs").glob("*/job.json"))}
        found = [folder for folder, plan in jobs.items() if folder.name == name or plan.hash.hex().startswith(name)]
        if not name or len(found) != 1:
            what = f"{len(found) if name else 'no'} trainings here are called {name!r}"
            raise UsageError(what, "Name one by its folder, or by the plan's hash in its bundle.")
        if not (found[0] / "outcome.json").exists():
            raise UsageError(f"training {found[0].name} is not finished", "Begin from one whose weights are final.")
        plan = jobs[found[0]]
        if plan.learning.share != "all" or not plan.recompute:
            what = f"no node knows the weights that training {found[0].name} ended with"
            mend = "Begin from one with learning.share=all and secure.verify=recompute, or from new weights."
            raise UsageError(what, mend)
        return CheckpointStore(found[0]).load().shared

    def submit(self, folder: Path) -> int:
        """Start a training, or go on with one from its checkpoint; returns Flower's id of it.

        Raises UsageError for one that is finished, DeploymentError while nothing serves.
        """
        if (folder / "outcome.json").exists():
            raise UsageError(f"training {folder.name} is finished", "Start another: `fedprofile coordinator run`.")
        self._check_serving()
        for name in (FAILURE, PROGRESS):  # of the run before, which status would tell as this one's
            (folder / name).unlink(missing_ok=True)
        self._log_run(folder)
        try:
            run = self.link.submit(folder)
        except FedprofileError as error:
            self.log.write(failed(self._plan(folder).run_id, error))
            _note_failed(folder, error.what, error.mend)
            raise
        (folder / FLOWER_RUN).write_text(str(run))
        return run

    def _log_run(self, folder: Path) -> None:
        """In the log, and where the run's ServerApp finds it."""
        replace_private(folder / POINTER, str(self.folder).encode())
        job = Job.from_json((folder / "job.json").read_text())
        hashes = (job.plan.hash.hex(), config_hash(self.config(folder)))
        who, resumed = tuple(p.id for p in job.roster.parties), (folder / FLOWER_RUN).exists() or None
        self.log.write(Submitted(job.plan.run_id.hex(), folder.name, *hashes, job.profile, who, resumed))

    def _plan(self, folder: Path) -> RunPlan:
        return Job.from_json((folder / "job.json").read_text()).plan

    def _check_serving(self) -> None:
        if not self.link.running:
            raise DeploymentError("the coordinator is not running", "Start it first.")

    def stop_training(self) -> Path:
        """Stop the last training; returns its folder. Raises UsageError for one that never began."""
        folder = self.run_folder(None)
        if not (folder / FLOWER_RUN).exists():
            raise UsageError(f"training {folder.name} never began", "There is nothing to stop.")
        self.link.stop_run(int((folder / FLOWER_RUN).read_text()))
        self._note_stopped(folder)
        return folder

    def _note_stopped(self, folder: Path) -> None:
        """What no ServerApp can say."""
        self.log.write(Stopped(self._plan(folder).run_id.hex()))
        _note_failed(folder, "the training was stopped", _RESUME)

    def stop(self) -> bool:
        """End what serves, and with it the training that runs, if any; whether anything served."""
        ended = self.link.stop()
        if ended:
            self.ended()
        return ended

    def ended(self) -> None:
        """Nothing serves any more, so that no training runs either."""
        if (self._training() or {}).get("state") == "running":
            self._note_stopped(self.run_folder(None))

    def run_folder(self, name: str | None) -> Path:
        """A training by its name, the last one by default. Raises UsageError."""
        runs = sorted(p for p in (self.folder / "runs").glob("*") if (p / "job.json").exists())
        found = [p for p in runs if name in (None, p.name)]
        if not found:
            known = ", ".join(p.name for p in runs[-5:]) or "none"
            raise UsageError(f"there is no training {name or ''}".rstrip(), f"Known: {known}.")
        return found[-1]

    def config(self, folder: Path) -> Config:
        return read(folder)

    def status(self) -> dict[str, Any]:
        """Roster, nodes and the last training: counts, states and sums, nothing else."""
        roster, proposal = self.roster(), self.proposal()
        known = {} if not self.link.running else {n.node_id: n for n in self.link.nodes()}
        registered, requests = self.link.registered(), self.requests()
        parties = [p.id for p in (roster or proposal).parties] if (roster or proposal) else sorted(requests)  # type: ignore[union-attr]
        nodes = []
        for party in parties:
            seen = known.get(registered[party].node_id) if party in registered else None
            nodes.append(
                {
                    "party": party,
                    "role": requests[party].role if party in requests else "",
                    "release": requests[party].release if party in requests else "",
                    "status": seen.status if seen else "not registered",
                    "last_seen": seen.last_seen.isoformat(timespec="seconds") if seen and seen.last_seen else None,
                }
            )
        signed = dict(proposal.signatures) if proposal else {}
        return {
            "federation": self.link.settings.federation,
            "running": self.link.running,
            "release": version("fedprofile"),
            "roster": roster.version if roster else 0,
            "proposal": proposal.version if proposal else None,
            "unsigned": [p for p in electors(proposal, roster) if p not in signed] if proposal else [],
            "nodes": nodes,
            "training": self._training(),
        }

    def _training(self) -> dict[str, Any] | None:
        try:
            folder = self.run_folder(None)
        except UsageError:
            return None
        state = training_state(folder)
        if state["state"] == "running" and self._is_over(folder):
            state = training_state(folder)  # what it said at its end, meanwhile
            if state["state"] == "running":
                state = {"state": "failed", "what": "its process ended without a word", "mend": _RESUME}
        return {"name": folder.name, **state}

    def _is_over(self, folder: Path) -> bool:
        """Whether SuperLink says that the training's process has ended; False while nothing serves."""
        if not self.link.running or not (folder / FLOWER_RUN).exists():
            return False
        return self.link.run(int((folder / FLOWER_RUN).read_text())).finished

    def _read_roster(self, name: str) -> Roster | None:
        file = self.folder / name
        return Roster.from_json(json.loads(file.read_text())) if file.exists() else None

    def _write(self, name: str, value: object) -> None:
        replace_private(self.folder / name, json.dumps(value, indent=1).encode())


def _note_failed(folder: Path, what: str, mend: str) -> None:
    """What no ServerApp can say: that it was stopped, or never began."""
    replace_private(folder / FAILURE, json.dumps({"what": what, "mend": mend}, indent=1).encode())


def training_state(folder: Path) -> dict[str, Any]:
    """How far a training is, from the files that its ServerApp leaves: "finished", "failed" or "running"."""
    if (folder / "outcome.json").exists():
        summaries = json.loads((folder / "outcome.json").read_text())["summaries"]
        return {"state": "finished", "rounds": len(summaries)}
    if (folder / FAILURE).exists():
        failure = json.loads((folder / FAILURE).read_text())
        return {"state": "failed", "what": failure["what"], "mend": failure["mend"]}
    if (folder / PROGRESS).exists():
        return {"state": "running", **json.loads((folder / PROGRESS).read_text())}
    return {"state": "running", "stage": "submitted"}
