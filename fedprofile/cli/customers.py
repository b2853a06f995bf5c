"""From what a user gives to customers' pseudonyms; mistakes are named without their content."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedprofile.errors import DataError

if TYPE_CHECKING:
    from fedprofile.governance.subjects import Subjects
    from fedprofile.node.home import NodeHome

_FILE = "the id file"


def open_home(args: argparse.Namespace) -> NodeHome:
    from fedprofile.node.home import NodeHome

    return NodeHome(args.home)


def read_subjects(args: argparse.Namespace, home: NodeHome) -> Subjects:
    """(n, 2) pseudonyms of the ids in ``--ids``, one a line. Raises DataError for none."""
    from fedprofile.data.ids import normalise_ids
    from fedprofile.data.reading import decode, read_bytes
    from fedprofile.governance.subjects import pseudonyms
    from fedprofile.node.consent import ledger_of

    data = sys.stdin.buffer.read() if args.ids == "-" else read_bytes(Path(args.ids), _FILE)
    lines = [line for line in decode(data, _FILE).splitlines() if line.strip()]
    if not lines:
        raise DataError(_FILE, "nobody is named", "Write one id a line.")
    return pseudonyms(normalise_ids(lines), ledger_of(home).subject_key)


def read_subject(args: argparse.Namespace, home: NodeHome) -> Subjects:
    """(1, 2): the one customer in ``--ids``. Raises DataError for more."""
    subjects = read_subjects(args, home)
    if len(subjects) != 1:
        raise DataError(_FILE, "more than one customer is named", "Give one id.", count=len(subjects))
    return subjects
