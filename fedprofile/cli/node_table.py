"""`fedprofile node map|check`: a partner's own table against the contract of its role. Prints no cell of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fedprofile.cli.verbs import add_verb

# What the map can do about a reason; the others are for the table itself.
_MENDS = {
    "thousands_separator": "write `thousands: true` in map.yaml",
    "unknown_code": "translate it under `codes` in map.yaml",
    "not_a_date": "write its form under `date` in map.yaml",
    "not_whole": "write `round: down` in map.yaml",
    "not_a_number": "list marks of a missing value under `missing` in map.yaml",
    "below_range": "check `unit` in map.yaml",
    "above_range": "check `unit` and `missing` in map.yaml",
}


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `map` and `check` below the noun `node`; each sets ``run(args) -> exit code``."""
    map_ = add_verb(
        verbs, "map", _map, "how the own table is written: draft map.yaml, or check and show it",
        "fedprofile node map my-node --suggest\n  fedprofile node map my-node",
    )  # fmt: skip
    map_.add_argument("--suggest", action="store_true", help="read the table and draft map.yaml")
    map_.add_argument("--force", action="store_true", help="with --suggest: replace the map.yaml that is there")

    check = add_verb(
        verbs, "check", _check, "hold the own table against the contract: 1 if a limit stops a run",
        "fedprofile node check my-node\n  fedprofile node check my-node --freeze",
    )  # fmt: skip
    check.add_argument("--freeze", action="store_true", help="if nothing stops it, keep it as the table that runs use")
    check.add_argument(
        "--accept-drift", action="store_true", help="the table changed since last time, and that is meant"
    )


def _map(args: argparse.Namespace) -> int:
    if args.suggest:
        return _suggest(args)
    from fedprofile.data.readers.source_file import read_raw
    from fedprofile.node.intake import read_settings

    contract, table_map, source = read_settings(args.home)
    frame = read_raw(source, table_map.id, table_map.columns)
    rows = []
    for column in contract.columns:
        how = table_map.readings.get(column.name)
        unit = "" if how is None or not how.unit else f"{how.unit} -> {column.unit}"
        codes = "" if how is None or not how.codes else f"{len(how.codes)} codes"
        extras = [unit, codes] + ([] if how is None else [how.date, "1,234" * how.thousands, how.round])
        rows.append(
            {
                "column": column.name,
                "from": "" if how is None else how.column,
                "type": column.type,
                "grade": column.grade,
                "class": column.sensitivity,
                "how": ", ".join(e for e in extras if e),
            }
        )
    report = {"role": contract.role, "version": contract.version, "contract": contract.root.hex(), "rows": len(frame)}
    if args.json:
        print(json.dumps({**report, "map": table_map.root.hex(), "id": table_map.id, "columns": rows}))
        return 0
    print(f"{contract.role}, version {contract.version}: {len(frame)} rows; id from {table_map.id!r}")
    print(f"{'contract':<40}{'your column':<26}{'type':<10}{'grade':<7}{'how it is written'}")
    for row in rows:
        theirs = row["from"] or "(absent)"
        print(f"{row['column']:<40}{theirs:<26}{row['type']:<10}{row['grade']}, {row['class']:<4}{row['how']}")
    print(f"Next: fedprofile node check {args.home}")
    return 0


def _suggest(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from fedprofile.data.map_suggest import suggest
    from fedprofile.data.readers.source_file import read_raw, source_name
    from fedprofile.data.table_map import FILE as MAP
    from fedprofile.errors import UsageError
    from fedprofile.files import replace_private
    from fedprofile.node.intake import give_contract, home_contract, home_source

    give_contract(args.home)
    contract, source, path = home_contract(args.home), home_source(args.home), args.home / MAP
    if path.exists() and not args.force:
        raise UsageError(f"{path} is there already", "Edit it, or replace it with --force.")
    frame = read_raw(source, "", None)
    draft = suggest(frame, contract, source_name(source), datetime.now(UTC).date())
    replace_private(path, draft.to_yaml().encode())
    if args.json:
        open_ = {name or "id": note for name, note in draft.notes.items()}
        print(json.dumps({"file": str(path), "mapped": len(draft.readings), "open": open_}, ensure_ascii=False))
        return 0
    print(
        f"Wrote {path}: {len(draft.readings)} of {len(contract.columns)} columns mapped, id from {draft.id or '?'!r}."
    )
    for name, note in draft.notes.items():
        print(f"  {name or 'id'}: {note}")
    print(f"Read it, complete it, then: fedprofile node map {args.home}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from fedprofile.errors import DataError
    from fedprofile.node.intake import freeze, look
    from fedprofile.node.table_check import table_report

    try:
        intake = look(args.home)
        report = table_report(args.home, intake)
        stops = [s for s in intake.stops if not (args.accept_drift and s.limit == "drift")]
        report |= {"ok": not stops, "frozen": args.freeze and not stops, "stops": [vars(s) for s in stops]}
        if report["frozen"]:
            freeze(args.home, intake, args.accept_drift)
    except DataError as e:
        if not args.json:
            raise
        wrong = {"ok": False, "file": e.file, "column": e.column, "count": e.count, "what": e.what, "mend": e.mend}
        print(json.dumps(wrong, ensure_ascii=False))
        return e.exit_code
    print(json.dumps(report, ensure_ascii=False, indent=1) if args.json else _page(report))
    return 0 if report["ok"] else 1


def _page(report: dict[str, Any]) -> str:
    contract, rows, last = report["contract"], report["rows"], report["last"]
    lines = [
        f"contract   {contract['role']}, version {contract['version']}, {contract['root'][:16]}",
        f"source     {report['source']}, read on {report['read_on']}",
        f"rows       {rows['read']} read, {rows['kept']} kept, {rows['quarantined']} quarantined"
        + (f"; last time {last['rows']} kept on {last['read_on']}" if last else ""),
        f"quality    {_figure(report['quality']['figure'])}  "
        + ", ".join(f"{k} {_figure(v)}" for k, v in report["quality"].items() if k != "figure"),
        f"drift      {_drift(report['drift'])}",
        *(f"unchanged  {name}: nobody's value since {day}" for name, day in report["unchanged_since"].items()),
        f"overlap    {_overlap(report['overlap'])}",
        f"consent    {_consent(report['consent'])}",
    ]
    if report["quarantine"]:
        lines += ["", f"{'rows':>8}  quarantined because"]
        lines += [
            f"{q['rows']:>8}  {q['code']:<22}{q['column']:<34}{_MENDS.get(q['code'], '')}".rstrip()
            for q in report["quarantine"]
        ]
    lines += ["", f"{'column':<42}{'type':<10}{'grade':<8}{'missing':>8}{'PSI':>8}"]
    for name, column in report["columns"].items():
        psi = report["drift"].get(name)
        grade = f"{column['grade']}, {column['class']}"
        cells = f"{_share(column['missing']):>8}{_figure(psi['psi']) if psi else '':>8}"
        lines.append(f"{name:<42}{column['type']:<10}{grade:<8}{cells}")
    lines += ["", *(_stop(s) for s in report["stops"])] if report["stops"] else []
    if report["frozen"]:
        lines += ["", "Frozen: runs read this table from now on."]
    elif report["ok"]:
        lines += ["", "In order. To keep it for runs, add --freeze."]
    return "\n".join(lines)


def _drift(drift: dict[str, Any]) -> str:
    if not drift:
        return "nothing to compare with yet"
    worst = max(drift, key=lambda name: drift[name]["psi"])
    psi, noise = (_figure(drift[worst][k]) for k in ("psi", "noise"))
    return f"largest PSI {psi} ({worst}); chance alone gives up to {noise}"


def _overlap(overlap: dict[str, int] | None) -> str:
    return "no alignment yet" if overlap is None else f"{overlap['aligned']} customers stood in the last run's spine"


def _consent(consent: dict[str, Any] | None) -> str:
    if consent is None:
        return "not a node's home yet"
    uses = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in consent.items() if k not in ("source", "customers"))
    return f"live for {uses} of {consent['customers']} customers ({consent['source']})"


def _stop(stop: dict[str, Any]) -> str:
    # min_rows and quality are floors, the others ceilings.
    against = "below" if stop["limit"] in ("min_rows", "quality") else "above"
    about = f" of {stop['column']}" if stop["column"] else ""
    return f"stops: {stop['limit']}{about} is {stop['value']:g}, {against} the contract's {stop['bound']:g}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
