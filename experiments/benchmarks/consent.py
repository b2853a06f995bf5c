"""What consent costs at a million customers: import, a restarted node's first question, every later one.

    python experiments/benchmarks/consent.py [customers]

Every customer has a grant and an authorisation, each with a moment of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fedprofile.governance.consent_file import read_consents
from fedprofile.governance.consents import Wanted
from fedprofile.governance.ledger import FILE, ConsentLedger
from fedprofile.governance.permits import LedgerPermit
from fedprofile.governance.subjects import pseudonyms
from fedprofile.secagg.identity import Identity


def timed(what: str, work: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    result = work()
    print(f"{what:<58}{time.perf_counter() - begin:8.2f} s")
    return result


def export(n: int, file: Path) -> None:
    moment = pl.datetime(2026, 1, 1) + pl.duration(seconds=pl.col("i") % 86_400)
    one = pl.select(pl.int_range(n).alias("i")).select(
        pl.format("C{}", "i").alias("id"),
        pl.lit("grant").alias("kind"),
        pl.lit("tiering").alias("purpose"),
        pl.lit(None, pl.String).alias("recipient"),
        pl.lit("income").alias("data_classes"),
        pl.lit("v1").alias("text_version"),
        pl.lit("app").alias("channel"),
        moment.dt.strftime("%Y-%m-%dT%H:%M:%S+08:00").alias("valid_from"),
        pl.lit("2099-01-01").alias("valid_to"),
    )
    other = one.with_columns(pl.lit("authorisation").alias("kind"), pl.lit("bank").alias("recipient"))
    pl.concat([one, other]).write_csv(file)


def main(n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, file = Path(folder), Path(folder) / "consents.csv"
        export(n, file)

        def opened() -> ConsentLedger:
            return ConsentLedger(path / FILE, "tax", Identity.from_seed(bytes(32)), bytes(32))

        def take_in() -> None:
            ledger = opened()
            ledger.create()
            for terms, ids, start, end in read_consents(file, "tax"):
                ledger.sign_up(terms, pseudonyms(ids, ledger.subject_key), start, end)

        timed(f"import {2 * n} signatures", take_in)
        print(f"{'ledger':<58}{(path / FILE).stat().st_size / 2**20:8.1f} MiB")
        ids = np.array([f"C{i}" for i in range(n)])
        permit = LedgerPermit(opened(), Wanted("tiering", "tax", "bank", ("income",)))
        ask = lambda: permit.allowed(ids, "training", datetime.now(UTC))  # noqa: E731
        assert timed("verify the ledger, make pseudonyms, decide", ask).all()
        assert timed("ask again, nothing changed", ask).all()
        opened().revoke(pseudonyms(ids[:100], bytes(32)), "app")
        assert timed("ask again after a revocation", ask).sum() == n - 100
        timed("import the same export again", take_in)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
