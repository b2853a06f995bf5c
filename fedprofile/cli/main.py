"""`fedprofile VERB …`: exit code 0 done, 1 the job failed, 2 used wrongly, 3 `registry watch` advises retraining."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from fedprofile.cli import audit, bundle, consent, coordinator, data, doctor, node, registry, score, train, ui
from fedprofile.errors import FedprofileError

_EPILOG = """examples:
  fedprofile train                                   the default job: nhanes, ten nodes, in this process
  fedprofile train data=folder data.root=my-data     your own tables
  fedprofile score BUNDLE customers.csv scores.csv   score a batch
  fedprofile ui                                      look at runs and models
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A user's mistake is one line on stderr, never a traceback."""
    parser = _parser()
    try:
        args, rest = parser.parse_known_args(argv)
        # argparse cannot put words behind an option into the same list: `train data=k401 -m seed=1,2`
        if rest and (not hasattr(args, "overrides") or any(word.startswith("-") for word in rest)):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
    except SystemExit as end:
        return int(end.code or 0)
    if rest:
        args.overrides = [*args.overrides, *rest]
    try:
        return int(args.run(args))
    except FedprofileError as error:
        code, line = error.exit_code, str(error)
        caught: BaseException = error
    except KeyboardInterrupt as error:
        code, line, caught = 1, str(error) or "interrupted", error
    except BrokenPipeError as error:
        # whoever read our output has enough; the flush at exit must not complain either
        sys.stdout = None
        code, line, caught = 1, "output closed", error
    except Exception as error:
        # only the kind: a library's message may quote what it choked on
        code, caught = 1, error
        line = f"unexpected {type(error).__name__}. Run again with --debug for the traceback, which may show values"
    if args.debug:
        import traceback

        traceback.print_exception(caught)
    print(f"error: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedprofile",
        description="Federated customer profiles: encrypted updates, one shared tiering and propensity model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="VERB")
    for module in (train, score, bundle, data, coordinator, node, consent, audit, registry, doctor, ui):
        module.add_parser(verbs)
    for verb in verbs.choices.values():
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


class _Version(argparse.Action):
    """Reads the installed version only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"fedprofile {version('fedprofile')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
