"""One simulated federation from configuration to report: the whole house in the order in which data passes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedprofile.config.checks import validate
from fedprofile.config.compose import compose, config_hash, read, recorded, resolved, save
from fedprofile.config.folder import fresh, hold, home, refuse_used
from fedprofile.config.planning import make_learning, make_plan, make_policy, views_needed
from fedprofile.config.schema import Config
from fedprofile.coordinator.job import Job
from fedprofile.coordinator.rounds import Watch
from fedprofile.data.federation import Federation
from fedprofile.data.sources import open_source
from fedprofile.errors import FedprofileError, UsageError
from fedprofile.node.home import NodeHome
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.setup_messages import KEMS, PROFILES
from fedprofile.simulation.homes import (
    give_alignment,
    give_labels,
    give_start,
    is_simulated,
    make_homes,
    make_roster,
    pin,
    spine_secret,
    write_job,
)
from fedprofile.simulation.nodes import align, deal
from fedprofile.simulation.plan import check_federation, facts_of
from fedprofile.simulation.tracked import Tracked, open_sweep, tracked
from fedprofile.types import Progress, Weights

__all__ = ["Result", "open_sweep", "train"]

Observer = Callable[[Progress], None]
_JOB, _DATA, _REPORT, _FINISHED = "coordinator", "data.json", "report.json", ".finished"


@dataclass(frozen=True)
class Result:
    """What a finished run hands back; ``bundle`` is the model's folder, ``version`` its version in the registry."""

    report: dict[str, Any] = field(repr=False)
    run_dir: Path
    bundle: Path
    version: str | None


@dataclass
class _Clock:
    """Seconds by stage; stages do not overlap."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def train(
    config: Config | Sequence[str] | None = None,
    *,
    observer: Observer | None = None,
    resume: str | None = None,
    parent: str | None = None,
    register: bool | None = None,
    follows: str | None = None,
    start: Weights | None = None,
) -> Result:
    """Train once. ``resume`` names the folder of an interrupted run, which goes on to the same model.

    ``parent`` is the MLflow run of a sweep; ``follows`` the manifest (hex) of the champion that the model is to
    follow; ``start`` its trunk and heads, to begin from. Raises FedprofileError subclasses for a user's mistake.
    """
    observe = observer or (lambda _: None)
    if resume is not None:
        run_dir = Path(resume).absolute()
        if (run_dir / _FINISHED).exists():
            raise UsageError(f"the run in {run_dir} is finished", "Start a new one, or read its report.html.")
        return _Training(read(run_dir), run_dir, observe, parent, register, None, None, resumed=True).go()
    chosen = config if isinstance(config, Config) else compose(list(config or ()))
    validate(chosen)
    run_dir = Path(chosen.run.dir).absolute() if chosen.run.dir else fresh()
    refuse_used(run_dir)
    return _Training(chosen, run_dir, observe, parent, register, follows, start, resumed=False).go()


class _Training:
    def __init__(
        self,
        config: Config,
        run_dir: Path,
        observe: Observer,
        parent: str | None,
        register: bool | None,
        follows: str | None,
        start: Weights | None,
        resumed: bool,
    ) -> None:
        self.config, self.run_dir, self.observe = config, run_dir, observe
        self.parent, self.follows, self.start, self.resumed = parent, follows, start, resumed
        self.register = config.tracking.register if register is None else register
        self.clock = _Clock()
        self.job_dir = run_dir / _JOB
        self.held = ExitStack()

    def go(self) -> Result:
        with self.held:
            if self.resumed:
                self.held.enter_context(hold(self.run_dir))
            return self._go()

    def _go(self) -> Result:
        with self.clock.stage("data"):
            self.observe(Progress("data"))
            self.federation = open_source(self.config.data.source, self.config.data.root)
        with self.clock.stage("setup"):
            self.observe(Progress("setup"))
            self.nodes = deal(self.federation, self.config.members, self.config.federation.overlap)
            self._prepare()
        with tracked(self.config, self.run_dir, len(self.federation.tasks), self.parent, self.resumed) as run:
            run.log_config(resolved(self.config), config_hash(self.config))
            run.log_dataset(self.federation.name, self.federation.digest.hex(), _schema(self.federation))
            with self.clock.stage("rounds"):
                self._federate(run)
            return self._conclude(run)

    # -- before ------------------------------------------------------------------------------------
    def _prepare(self) -> None:
        """Node homes, roster and plan: made once, found again on resume."""
        secrets = self.config.federation.secrets
        if (self.job_dir / "job.json").exists():
            self._refuse_other_data()
            job = Job.from_json((self.job_dir / "job.json").read_text())
            self.plan, self.roster = job.plan, job.roster
            self.homes = {p.id: NodeHome(self.run_dir / "nodes" / p.id) for p in self.roster.parties}
            return
        if (self.run_dir / _DATA).exists() and json.loads((self.run_dir / _DATA).read_text()).get("follows"):
            what = f"the run in {self.run_dir} was interrupted before its plan was made"
            raise UsageError(what, "Its champion's weights are not kept there: start it again in another folder.")
        alignment = align(self.nodes, spine_secret(self.federation, secrets), views_needed(self.config))
        check_federation(self.config, self.federation, self.nodes, alignment)
        facts = facts_of(self.config, self.federation, self.nodes)
        policy = make_policy(self.config, facts)
        make_learning(self.config, facts, policy)
        save(self.config, self.run_dir)
        if not self.resumed:
            self.held.enter_context(hold(self.run_dir))
        began = {"digest": self.federation.digest.hex(), "follows": self.follows}
        (self.run_dir / _DATA).write_text(json.dumps(began))
        secure = self.config.secure
        modes = (secrets, self.config.federation.consent, secure.profile, self.config.align.mode, secure.kem)
        self.homes = make_homes(self.run_dir / "nodes", self.federation, self.nodes, *modes)
        give_labels(self.homes[self.federation.label_owner], self.federation, self.config.data.fold)
        if self.config.align.mode == "simulated":
            give_alignment(self.homes, self.federation.label_owner, alignment)
        self.roster = make_roster(self.homes, self.federation.label_owner)
        pin(self.homes, self.roster, policy)
        run_id = None if is_simulated(secrets) else os.urandom(32)
        self.plan = make_plan(self.config, facts, self.roster, policy, run_id, self.start)
        if self.start is not None:
            give_start(self.job_dir, self.homes, self.start)
        profile = next(p for p in PROFILES if p == secure.profile)
        kem = next(k for k in KEMS if k == secure.kem)
        write_job(self.job_dir, Job(self.plan, self.roster, policy, profile, kem))

    def _refuse_other_data(self) -> None:
        """The nodes hold the tables that the run began with; baselines of others would be compared with their model."""
        began = json.loads((self.run_dir / _DATA).read_text())
        self.follows = began.get("follows")
        if began["digest"] != self.federation.digest.hex():
            raise UsageError(
                f"the data of the run in {self.run_dir} has changed since it began",
                "Bring the tables back as they were, or start a new run.",
            )

    # -- the federation ----------------------------------------------------------------------------
    def _federate(self, run: Tracked) -> None:
        if (self.job_dir / "outcome.json").exists():
            return
        from fedprofile.flower import client_app, server_app

        homes = {party: h.path for party, h in self.homes.items()}
        watch = Watch(self.observe, run.log_round)
        client_app.forget(list(homes.values()))
        try:
            with server_app.watching(self.job_dir, watch):
                if self.config.federation.backend == "ray":
                    from fedprofile.flower.ray_engine import run_on_ray

                    run_on_ray(server_app.app, client_app.app, homes, self.job_dir, self.config.federation.workers)
                else:
                    from fedprofile.flower.inprocess import run_in_process

                    workers = self.config.federation.workers
                    run_in_process(server_app.app, client_app.app, homes, self.job_dir, workers=workers)
        finally:
            client_app.forget(list(homes.values()))
        if not (self.job_dir / "outcome.json").exists():
            raise FedprofileError("the federation ended without an outcome", "See the messages above.")

    # -- after -------------------------------------------------------------------------------------
    def _conclude(self, run: Tracked) -> Result:
        from fedprofile.label_owner import judging
        from fedprofile.label_owner.evaluate import fuse
        from fedprofile.label_owner.party import SHARED_MODEL
        from fedprofile.models.bank import fit_bank
        from fedprofile.registry.bundle import write_bundle
        from fedprofile.registry.describing import Origin, describe_model
        from fedprofile.report import page, plots, schema
        from fedprofile.simulation import baselines
        from fedprofile.simulation.cache import Cache
        from fedprofile.simulation.outputs import write_predictions

        owner, config = self.homes[self.federation.label_owner], self.config
        cache = Cache(Path(config.baselines.cache) if config.baselines.cache else home() / "cache" / "baselines")
        with self.clock.stage("fusion"):
            self.observe(Progress("fusion"))
            options = (config.fusion.view_dropout, config.fusion.parts)
            key = baselines.cache_key(config, self.federation, self.plan)
            fusion = fuse(
                owner, self.plan, self.roster, *options, lambda *given: cache.bank(key, lambda: fit_bank(*given))
            )
        compared = None
        if config.baselines.enabled:
            with self.clock.stage("baselines"):
                self.observe(Progress("baselines"))
                compared = baselines.compute(config, self.federation, self.plan, self.roster, self.homes, fusion, cache)
        with self.clock.stage("report"):
            self.observe(Progress("report"))
            outcome = json.loads((self.job_dir / "outcome.json").read_text())
            for summary in outcome["summaries"]:  # what an interrupted run did not come to log; known steps are skipped
                run.log_round(int(summary["t"]), {k: v for k, v in summary.items() if k != "t"})
            tasks = judging.judge_tasks(fusion, compared, self.plan.tasks, config.baselines.bootstrap, config.seed)
            bundle = self.run_dir / "bundle"
            shutil.rmtree(bundle, ignore_errors=True)  # an interrupted run may have left one
            facts: dict[str, Any] = {"id": self.federation.id_column, "data": self.federation.digest.hex()}
            facts |= {"groups": list(self.federation.groups), "config_sha256": config_hash(config)}
            facts |= {"config": recorded(config)}
            meta = describe_model(owner, self.plan, self.roster, fusion, tasks, Origin(self.follows, facts))
            signer = Identity.from_seed(owner.derive("identity"))
            write_bundle(bundle, fusion.fused, meta, owner.read_arrays(SHARED_MODEL) or {}, signer)
            models = judging.compared_models(fusion, compared)
            write_predictions(self.run_dir / "predictions.parquet", fusion, models, self.plan.tasks, owner)
        report = self._report(fusion, tasks, outcome, run)
        schema.validate(report)
        pictures = plots.write_plots(report, self.run_dir)
        page.write_page(report, self.run_dir, pictures)
        (self.run_dir / _REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False))
        run.log_report(report, self.run_dir)
        version = run.log_model(bundle, self.register and self.parent is None)
        (self.run_dir / _FINISHED).touch()
        return Result(report, self.run_dir, bundle, version)

    def _report(self, fusion: Any, tasks: dict[str, Any], outcome: dict[str, Any], run: Tracked) -> dict[str, Any]:
        from fedprofile.simulation.statements import describe_run

        return describe_run(
            config=self.config, federation=self.federation, nodes=self.nodes, plan=self.plan, fusion=fusion,
            tasks=tasks, outcome=outcome, run_dir=self.run_dir, mlflow_run_id=run.run_id, seconds=self.clock.seconds,
        )  # fmt: skip


def _schema(federation: Federation) -> dict[str, Mapping[str, str]]:
    return {
        party: {c: "categorical" if c in table.categorical else "numeric" for c in table.columns}
        for party, table in federation.tables.items()
    }
