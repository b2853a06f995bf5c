"""``fedprofile registry watch``: the champion's live customers beside those whom it saw; evidence, and advice."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fedprofile.errors import ConfigError, DataError, UsageError
from fedprofile.files import replace_private
from fedprofile.governance.advice import SIGNERS, Advice
from fedprofile.governance.watch import Outlook, Watched, WatchSettings, judge
from fedprofile.types import canonical, digest

if TYPE_CHECKING:
    from fedprofile.governance.promotion import Release, State
    from fedprofile.registry.bundle import Bundle
    from fedprofile.registry.home import Registry
    from fedprofile.registry.promote import Actor
    from fedprofile.registry.reference import Reference

REPORT, PAGE, ADVICE = "watch.json", "watch.html", "recommendation.json"
_BUNDLE, _HOME = "the bundle", "the label owner's home"
_COARSE = "The bundle's histograms hold at least 20 customers a cell: what fewer have in common is not seen to move."
_OUTCOMES = "No labels of the live customers were looked at: their outcomes may have moved where nothing here has."
_SERVED_ALONE = "The champion is served bank alone, so its bank-alone scores were compared: {}."
_ALONE = "The live table holds no partner's scores, so the bank-alone scores were compared."


def read_watch_settings(source: str | Path = "default") -> WatchSettings:
    """Settings by the name of a file in configs/watch, or by the path of one's own. Raises ConfigError."""
    own = Path(source)
    try:
        named = files("fedprofile.configs") / "watch" / f"{own.name}.yaml"
        raw = yaml.safe_load((own if own.suffix in (".yaml", ".yml") else named).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise ConfigError("watch", f"no settings {own.name!r}", "Name default, or a YAML file.") from None
    except yaml.YAMLError:
        raw = None
    if not isinstance(raw, dict):
        raise ConfigError("watch", f"{own.name!r} is no YAML mapping", "Start from configs/watch/default.yaml.")
    return WatchSettings.from_json(raw)


def watch(
    registry: Registry, table: Path, home: Path | None, settings: WatchSettings, actor: Actor | None
) -> tuple[Outlook, Advice | None]:
    """Compare ``table`` and the champion's scores of it with what the champion saw; keep the evidence in the registry.

    ``home``: the label owner's of the champion's run, for a bundle without a reference. Where anything moved, there is
    a recommendation, signed by ``actor`` if one is named: ``recommendation.json``.
    Raises UsageError without a champion or a reference, DataError for a table that cannot be judged.
    """
    state = registry.state()
    if actor is not None:
        registry.check_role(state, actor.id, actor.key, SIGNERS)
    if state.champion is None:
        raise UsageError("this registry has no champion", "Promote a version first: there is nothing to watch.")
    if not table.is_file():
        raise UsageError(f"{table.name!r} is missing", "Give a CSV, CSV.gz or Parquet file of live customers.")
    with table.open("rb") as live:
        sha256 = hashlib.file_digest(live, "sha256").hexdigest()
    outlook = _compared(registry, state.release(state.champion), table, home, settings)
    write_outlook(registry.path / "watch" / outlook.evidence, outlook, None)
    if not outlook.retrain:
        return outlook, None
    reasons = tuple(f"{f.shift.kind}/{f.shift.subject}: {f.reason}" for f in outlook.moved)
    advice = Advice(state.registry, state.champion, outlook.evidence, sha256, reasons, registry.clock())
    if actor is not None:
        advice = advice.signed(actor.id, actor.key)
    # A watch that runs every night, unsigned, must not take away what a person has signed.
    standing = standing_advice(registry, state)
    if actor is not None or standing is None or objection(registry, state, standing):
        _write(registry.path / ADVICE, advice)
    return outlook, advice


def write_outlook(folder: Path, outlook: Outlook, advice: Advice | None) -> None:
    """watch.json (canonical bytes), watch.html, and the recommendation if there is one."""
    from fedprofile.report.watch_page import watch_page

    folder.mkdir(parents=True, exist_ok=True)
    replace_private(folder / REPORT, canonical(outlook.to_json()))
    replace_private(folder / PAGE, watch_page(outlook.to_json(), outlook.evidence).encode())
    if advice is not None:
        _write(folder / ADVICE, advice)


def standing_advice(registry: Registry, state: State) -> Advice | None:
    """The open recommendation: it ends with the champion that it is about. Raises DataError for a damaged file."""
    file = registry.path / ADVICE
    advice = _read(file) if file.exists() else None
    return advice if advice and advice.champion == state.champion else None


def objection(registry: Registry, state: State, advice: Advice) -> str:
    """Why the recommendation does not count; empty if it does."""
    return advice.refusal(state.staff, state.registry, state.champion, registry.clock())


def signed_advice(registry: Registry, state: State, file: Path) -> Advice:
    """The recommendation in ``file``, which counts, and whose evidence lies unchanged in the registry or beside it.

    Raises UsageError for one that does not count, DataError for a damaged file or evidence.
    """
    advice = _read(file)
    if why := objection(registry, state, advice):
        raise UsageError(
            f"{file.name} does not count: {why}", "Sign one: fedprofile registry watch --as ID --key FILE."
        )
    for folder in (registry.path / "watch" / advice.evidence, file.parent):
        evidence = folder / REPORT
        if evidence.is_file() and digest("watch/1", evidence.read_bytes()).hex() == advice.evidence:
            return advice
    raise DataError(REPORT, "the evidence is missing or was changed", "Lay the one that was signed beside the file.")


def _write(file: Path, advice: Advice) -> None:
    replace_private(file, canonical(advice.to_json()) + b"\n")


def _read(file: Path) -> Advice:
    from fedprofile.data.reading import read_bytes

    try:
        return Advice.from_json(json.loads(read_bytes(file, file.name)))
    except ValueError:
        raise DataError(file.name, "not a recommendation", "Remove it, and run `fedprofile registry watch`.") from None


def _compared(
    registry: Registry, champion: Release, table: Path, home: Path | None, settings: WatchSettings
) -> Outlook:
    import torch

    from fedprofile.node.home import NodeHome
    from fedprofile.registry.batch import columns_of, read_customers
    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.frames import table_from_columns
    from fedprofile.registry.reference import ALONE, FUSED, shifts
    from fedprofile.registry.serving import kept_runs, why_bank_alone

    # The last digits of a score must not depend on how many cores there are.
    torch.set_num_threads(1)
    manifest = champion.manifest
    registry.shelf.read(manifest, champion.trainer)
    bundle = open_bundle(registry.shelf.folder(manifest), frozenset({bytes.fromhex(champion.trainer)}))
    own = None if home is None else kept_runs(NodeHome(home))
    frame, alone = read_customers(table, bundle), why_bank_alone(bundle.meta, own)
    if alone:
        frame = frame.drop(bundle.view_columns, strict=False)
    reference, source = _reference(bundle, home)
    columns = columns_of(frame, bundle, table.name)
    which = FUSED if set(bundle.view_columns) & set(frame.columns) else ALONE
    why = _SERVED_ALONE.format(alone) if alone else _ALONE
    notes = (*([_COARSE] if source == _BUNDLE else []), _OUTCOMES, *([why] if which == ALONE else []))
    watched = Watched(manifest, len(frame), which, source, notes)
    judge(watched, (), settings)  # too few customers, before they are scored
    live = table_from_columns(columns, bundle.schema)
    return judge(watched, shifts(reference, live, bundle.score_columns(columns), which, bundle.tasks), settings)


def _reference(bundle: Bundle, home: Path | None) -> tuple[Reference, str]:
    from fedprofile.registry.reference import Reference, make_reference

    if home is None:
        held = bundle.meta.get("reference")
        if held is None:
            mend = "Name the label owner's home of its run: --home HOME."
            raise UsageError("the champion's bundle holds no reference: an earlier version wrote it", mend)
        return Reference.from_json(held), _BUNDLE
    from fedprofile.node.home import NodeHome
    from fedprofile.registry.holdout import read_held, score

    own = read_held(NodeHome(home), bundle)
    data = own.data
    return make_reference(bundle.model, data.table, score(bundle, own), data.train, data.valid), _HOME
