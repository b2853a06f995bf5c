"""`fedprofile consent …`: the consent ledger of a node's home. Ids come from a file or from stdin, never as arguments.

Arguments are seen by whoever lists processes, and stay in the shell's history.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli import break_glass
from fedprofile.cli.customers import open_home, read_subject, read_subjects
from fedprofile.cli.keys import public_key
from fedprofile.cli.verbs import add_ids, add_verb, print_result

if TYPE_CHECKING:
    from fedprofile.governance.ledger import ConsentLedger
    from fedprofile.governance.subjects import Subjects


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `consent` and its verbs."""
    noun = subparsers.add_parser("consent", help="who may be used, for what, until when; deletion; break-glass reads")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = add_verb(verbs, "import", _import, "take in signed consents", "fedprofile consent import HOME consents.csv")
    verb.add_argument("file", type=Path, metavar="FILE", help="CSV, CSV.gz or Parquet, one row a signature")

    add_verb(verbs, "show", _show, "counts by purpose and recipient, never a person", "fedprofile consent show HOME")

    verb = add_verb(
        verbs, "revoke", _revoke, "take consent back, from the next message on",
        "fedprofile consent revoke HOME --ids ids.txt --purpose 'product propensity'",
    )  # fmt: skip
    add_ids(verb)
    verb.add_argument("--purpose", default="", help="only this purpose (default: all)")
    verb.add_argument("--recipient", default="", metavar="PARTY", help="only this recipient (default: all)")
    verb.add_argument("--channel", default="cli", help="how the customer said so (default: %(default)s)")

    verb = add_verb(verbs, "verify", _verify, "check every line and signature", "fedprofile consent verify HOME")
    verb.add_argument("--key", metavar="HEX", help="check with this public key instead of the home's own")

    verb = add_verb(
        verbs, "delete", _delete, "record a deletion request: consent ends, a certificate can be issued",
        "fedprofile consent delete HOME --ids ids.txt",
    )  # fmt: skip
    add_ids(verb)
    verb.add_argument("--channel", default="cli", help="how the customer said so (default: %(default)s)")

    noun = verbs.add_parser("certificate", help="the signed end of a deletion request")
    kinds = noun.add_subparsers(dest="what", required=True, metavar="WHAT")
    verb = add_verb(
        kinds, "issue", _issue, "write the certificate of one customer",
        "fedprofile consent certificate issue HOME certificate.json --ids id.txt",
    )  # fmt: skip
    verb.add_argument("out", type=Path, metavar="OUT", help="a file to write")
    add_ids(verb)
    verb = add_verb(
        kinds, "verify", _verify_certificate, "check a certificate",
        "fedprofile consent certificate verify certificate.json --key 5f3a...", home=False,
    )  # fmt: skip
    verb.add_argument("file", type=Path, metavar="FILE")
    verb.add_argument("--key", metavar="HEX", required=True, help="the holder's public key, as the roster names it")

    break_glass.add_parsers(verbs)


def _import(args: argparse.Namespace) -> int:
    from fedprofile.governance.consent_file import read_consents
    from fedprofile.governance.subjects import pseudonyms
    from fedprofile.node.consent import ledger_of

    home = open_home(args)
    with home.lock():
        ledger = ledger_of(home)
        parts = list(read_consents(args.file, home.config.party))
        ledger.create()
        rows = new = 0
        for terms, ids, start, end in parts:
            new += ledger.sign_up(terms, pseudonyms(ids, ledger.subject_key), start, end)
            rows += len(ids)
    facts = {"rows": rows, "new": new, "asked": home.config.consent == "ledger"}
    return print_result(args, facts, f"{rows} signatures read, {new} new.{_idle(facts)}")


def _show(args: argparse.Namespace) -> int:
    from fedprofile.node.consent import ledger_of

    home = open_home(args)
    ledger = ledger_of(home)
    consents = ledger.refresh()
    facts: dict[str, Any] = {
        "holder": ledger.holder,
        "asked": home.config.consent == "ledger",
        "lines": ledger.head.seq,
        "customers": len(consents.subjects()),
        "purposes": consents.counts(ledger.now(), ledger.holder),
        "deletion_requests": sum(len(s) for s, _ in consents.deletions),
        "runs": len(ledger.noted("trained")),
        "break_glass_reads": len(ledger.noted("break-glass-open")),
    }
    lines = [f"{facts['holder']}: {facts['customers']} customers in {facts['lines']} lines"]
    for purpose in facts["purposes"]:
        both = ", ".join(f"{n} also for {who}" for who, n in purpose["authorised"].items()) or "nobody authorised"
        lines.append(f"  {purpose['purpose']}: {purpose['granted']} live grants; {both}")
    lines.append(f"deletion requests {facts['deletion_requests']}, break-glass reads {facts['break_glass_reads']}")
    return print_result(args, facts, "\n".join(lines) + _idle(facts))


def _revoke(args: argparse.Namespace) -> int:
    from fedprofile.node.consent import ledger_of

    home = open_home(args)
    with home.lock():
        ledger, subjects = ledger_of(home), read_subjects(args, home)
        ledger.revoke(subjects, args.channel, purpose=args.purpose, recipient=args.recipient)
    facts = _whom(ledger, subjects)
    said = f"{facts['customers']} customers: consent taken back, from the node's next message on.{_doubt(facts)}"
    return print_result(args, facts, said)


def _delete(args: argparse.Namespace) -> int:
    from fedprofile.node.consent import ledger_of

    home = open_home(args)
    with home.lock():
        ledger, subjects = ledger_of(home), read_subjects(args, home)
        ledger.request_deletion(subjects, args.channel)
    facts = _whom(ledger, subjects)
    said = f"{facts['customers']} deletion requests recorded. Next: fedprofile consent certificate issue{_doubt(facts)}"
    return print_result(args, facts, said)


def _idle(facts: dict[str, Any]) -> str:
    return "" if facts["asked"] else "\nwarning: the node does not ask this ledger: set consent to ledger in node.json."


def _whom(ledger: ConsentLedger, subjects: Subjects) -> dict[str, int]:
    unknown = int((~ledger.consents.names(subjects)).sum())
    return {"customers": len(subjects), "unknown": unknown, "line": ledger.head.seq}


def _doubt(facts: dict[str, int]) -> str:
    """A mistyped id would revoke nothing, without a word."""
    return (
        f"\nwarning: {facts['unknown']} of them never signed anything here: check the ids." if facts["unknown"] else ""
    )


def _verify(args: argparse.Namespace) -> int:
    from fedprofile.node.consent import ledger_of

    ledger = ledger_of(open_home(args))
    ledger.refresh()
    head = ledger.chain.verify(public_key(args.key) if args.key else ledger.identity.sign_pk)
    facts = {"ok": True, "lines": head.seq, "head": head.hash.hex()}
    return print_result(args, facts, f"{head.seq} lines in order, head {head.hash.hex()}")


def _issue(args: argparse.Namespace) -> int:
    from fedprofile.node.one_customer import deletion_certificate
    from fedprofile.types import canonical

    home = open_home(args)
    certificate = deletion_certificate(home, read_subject(args, home))
    args.out.write_bytes(canonical(certificate) + b"\n")
    return print_result(args, certificate, _said(certificate))


def _verify_certificate(args: argparse.Namespace) -> int:
    from fedprofile.data.reading import read_bytes
    from fedprofile.governance.deletion import verify_certificate

    facts = verify_certificate(read_bytes(args.file, args.file.name), public_key(args.key), args.file.name)
    return print_result(args, facts, "The signature is the holder's.\n" + _said(facts))


def _said(certificate: dict[str, Any]) -> str:
    last, without = certificate["last_model"], certificate["first_without"]
    lines = [f"{certificate['holder']}, subject {certificate['subject']}"]
    lines.append(f"last model trained with the person: {'none' if last is None else 'run ' + last['run']}")
    if last is not None:
        lines.append(f"first retrain without: {'not yet' if without is None else 'run ' + without['run']}")
    lines.append(f"the row still lies in the stored table: {'yes' if certificate['row_held'] else 'no'}")
    return "\n".join(lines)
