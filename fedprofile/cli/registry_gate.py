"""What `gate` and `retrain` share: judge a bundle on the shelf beside the champion, log it, and say what failed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fedprofile.cli.registry_version import done, fetcher

if TYPE_CHECKING:
    from fedprofile.governance.advice import Advice
    from fedprofile.governance.gates import Settings, Verdict
    from fedprofile.registry.home import Registry
    from fedprofile.registry.promote import Actor


def run_gates(
    args: argparse.Namespace,
    registry: Registry,
    who: Actor,
    settings: Settings,
    manifest: str,
    number: str,
    home: Path,
    because: Advice | None = None,
) -> int:
    """``number``: of the version in MLflow, or ""; ``home``: the label owner's of its run; ``args.out``: a folder.

    ``because``: the recommendation that its training followed.
    """
    import shutil
    import tempfile

    from fedprofile.registry.gating import gate_bundle
    from fedprofile.registry.promote import gate
    from fedprofile.registry.shadowing import recall
    from fedprofile.registry.version import have

    before = registry.state()
    if before.champion:
        have(registry, before, before.champion, fetcher(registry))
    seen = recall(registry.path, before.champion, manifest) if before.champion else None
    with tempfile.TemporaryDirectory() as folder:

        def judged(bundle: Path, champion: Path | None, out: Path) -> Verdict:
            return gate_bundle(bundle, champion, home, settings, out, seen)

        state, verdict = gate(registry, who, manifest, number, Path(folder) / "gate", judged, because)
    report = registry.shelf.report(verdict.report)
    if args.out and report:
        shutil.copytree(report, args.out, dirs_exist_ok=True)
    marks = {True: "passed", False: "FAILED", None: "n/a"}
    lines = [f"  {marks[f.passed]:<8}{f.gate:<35} {f.reason}" for f in verdict.findings]
    lines += [f"{state.release(manifest).name}: {'passed' if verdict.passed else 'FAILED'}, report {report}/gate.html"]
    facts = {"passed": verdict.passed, "manifest": manifest, "report": verdict.report, "verdict": verdict.to_json()}
    return done(args, registry, state, "\n".join(lines), **facts)
