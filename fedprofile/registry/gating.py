"""``fedprofile registry gate``: verify both bundles, gather the evidence, judge it, leave gate.json and gate.html."""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import yaml

from fedprofile.errors import ConfigError, UsageError
from fedprofile.governance.gates import Settings, Verdict, judge, report_of
from fedprofile.node.home import NodeHome
from fedprofile.registry.shadowing import Beside
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical

REPORT, PAGE, VERDICT = "gate.json", "gate.html", "verdict.json"


def read_gate_settings(source: str | Path = "default") -> Settings:
    """Settings by the name of a file in configs/promotion, or by the path of one's own. Raises ConfigError."""
    own = Path(source)
    try:
        if own.suffix in (".yaml", ".yml"):
            text = own.read_text(encoding="utf-8")
        else:
            text = (files("fedprofile.configs") / "promotion" / f"{own.name}.yaml").read_text(encoding="utf-8")
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError):
        raise ConfigError("promotion", f"no settings {own.name!r}", "Name default, or a YAML file.") from None
    except yaml.YAMLError:
        raw = None
    if not isinstance(raw, dict):
        raise ConfigError("promotion", f"{own.name!r} is no YAML mapping", "Start from configs/promotion/default.yaml.")
    return Settings.from_json(raw)


def gate_bundle(
    folder: Path, champion_folder: Path | None, home: Path, settings: Settings, out: Path, shadow: Beside | None = None
) -> Verdict:
    """Judge the bundle in ``folder`` beside the champion's, on the held-out customers of the label owner's ``home``.

    ``shadow``: what its silent scoring beside the champion has shown (``shadowing.recall``).
    Both bundles must bear this label owner's signature. Writes gate.json (canonical bytes: ``Verdict.report`` is their
    SHA-256), gate.html and verdict.json into ``out``, which is made.
    Raises DataError for a bundle that is not whole or signed by another, UsageError for a home of another run.
    """
    import torch

    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.evidence import gather
    from fedprofile.report.gate_page import gate_page
    from fedprofile.report.plots import write_gate_plots

    # The last digits of a score must not depend on how many cores there are.
    torch.set_num_threads(1)
    owner = NodeHome(home)
    trust = frozenset({Identity.from_seed(owner.derive("identity")).sign_pk})
    challenger = open_bundle(folder, trust)
    champion = None if champion_folder is None else open_bundle(champion_folder, trust)
    evidence = gather(challenger, folder, champion, owner, settings, datetime.now(UTC).date(), shadow or {})
    verdict = judge(evidence, settings)
    report = report_of(evidence, settings, verdict.findings)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out.name} is not a folder", "Name a folder for the gate report.")
    out.mkdir(parents=True, exist_ok=True)
    data = canonical(report)
    if hashlib.sha256(data).hexdigest() != verdict.report:
        raise AssertionError("the report is not the one that was judged")
    with tempfile.TemporaryDirectory() as drawn:
        page = gate_page(report, verdict.passed, verdict.report, write_gate_plots(report, Path(drawn)))
    for name, content in ((REPORT, data), (PAGE, page.encode()), (VERDICT, canonical(verdict.to_json()))):
        partial = out / f".{name}.{os.getpid()}.partial"
        partial.write_bytes(content)
        partial.replace(out / name)
    return verdict
