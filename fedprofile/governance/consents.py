"""What a consent ledger says at a moment: who granted what to whom, until when, and what was taken back.

Two separate records make a row usable in a joint model: a *grant*, by which the customer lets the holder use data of
some classes for a purpose, and an *authorisation* (二次授权, PIPL 23), which names the organisation that receives what
comes of it: the label owner, in the label owner's own ledger too.

Three rules decide. A term holds from its first second up to, not including, its last. A revocation is in force from
its place in the ledger on, whatever the clock says. What is recorded after a revocation counts only if it begins later
than the revocation, and is not a record that the ledger had before: an old list that is imported once more brings
nobody back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from fedprofile.governance.consent_records import KINDS, Kind, Seconds, Terms, times
from fedprofile.governance.subjects import Subjects, decode

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Wanted:
    """What a use of rows needs: this purpose, at this holder, for this recipient, with all these data classes."""

    purpose: str
    holder: str
    recipient: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spans:
    """When customers may be used: rows (k,) positions in some list of subjects, each from ``start`` to before ``end``.

    Times are UTC seconds since 1970.
    """

    rows: npt.NDArray[np.int64] = field(repr=False)
    start: Seconds = field(repr=False)
    end: Seconds = field(repr=False)

    def at(self, moment: int, n: int) -> npt.NDArray[np.bool_]:
        """(n,) bool: which of n subjects have a span that holds now."""
        held = np.zeros(n, dtype=np.bool_)
        held[self.rows[(self.start <= moment) & (moment < self.end)]] = True
        return held


@dataclass
class Consents:
    """The ledger folded up to some line. ``latest``: the greatest time that any record carries."""

    latest: int = 0
    lines: int = 0
    terms: list[Terms] = field(default_factory=list)
    deletions: list[tuple[Subjects, int]] = field(default_factory=list, repr=False)
    _signed: list[tuple[int, int, Subjects, Seconds, Seconds]] = field(default_factory=list, repr=False)
    _revoked: list[tuple[int, int, str, str, Subjects]] = field(default_factory=list, repr=False)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take in the next record; other events only move the clock. Raises ValueError, KeyError, TypeError."""
        self.lines += 1
        self.latest = max(self.latest, int(record["at"]))
        event = record["event"]
        if event in KINDS:
            terms = Terms(
                cast(Kind, event), record["purpose"], record["recipient"], tuple(record["classes"]),
                record["text"], record["channel"],
            )  # fmt: skip
            if terms not in self.terms:
                self.terms.append(terms)
            subjects = decode(record["subjects"])
            start, end = (times(record[k], len(subjects)) for k in ("from", "to"))
            self._signed.append((self.lines, self.terms.index(terms), subjects, start, end))
        elif event in ("revocation", "deletion"):
            subjects = decode(record["subjects"])
            scope = ("", "") if event == "deletion" else (record["purpose"], record["recipient"])
            self._revoked.append((self.lines, int(record["at"]), *scope, subjects))
            if event == "deletion":
                self.deletions.append((subjects, int(record["at"])))

    def spans(self, subjects: Subjects, kind: Kind, wanted: Wanted) -> Spans:
        """When each of the subjects (n, 2) has a record of this kind that meets what is wanted."""
        import polars as pl

        recipient = wanted.holder if kind == "grant" else wanted.recipient
        asked = _frame(subjects).with_row_index("row").lazy()
        signed = self._live(kind, wanted, recipient)
        found = asked.join(signed, on=["lo", "hi"], how="inner").select(
            pl.col("row").cast(pl.Int64), "start", "end"
        ).collect()  # fmt: skip
        return Spans(found["row"].to_numpy(), found["start"].to_numpy(), found["end"].to_numpy())

    def known(self, terms: Terms, subjects: Subjects, start: Seconds, end: Seconds) -> npt.NDArray[np.bool_]:
        """(n,) bool: which of these very records the ledger holds already, revoked or not."""
        import polars as pl

        mine = [s for s in self._signed if self.terms[s[1]] == terms]
        asked = _frame(subjects).with_columns(pl.Series("start", start), pl.Series("end", end)).with_row_index("row")
        keys = ["lo", "hi", "start", "end"]
        rows = asked.join(_signed_frame(mine), on=keys, how="semi")["row"].to_numpy()
        held = np.zeros(len(subjects), dtype=np.bool_)
        held[rows] = True
        return held

    def counts(self, moment: int, holder: str) -> list[dict[str, Any]]:
        """For each purpose and recipient that the ledger names: customers with a live grant, and with both records."""
        out = []
        everybody = self.subjects()
        for purpose in sorted({t.purpose for t in self.terms}):
            wanted = Wanted(purpose, holder, holder)
            granted = self.spans(everybody, "grant", wanted).at(moment, len(everybody))
            named = sorted({t.recipient for t in self.terms if t.kind == "authorisation" and t.purpose == purpose})
            both = {}
            for recipient in named:
                spans = self.spans(everybody, "authorisation", Wanted(purpose, holder, recipient))
                both[recipient] = int((granted & spans.at(moment, len(everybody))).sum())
            out.append({"purpose": purpose, "granted": int(granted.sum()), "authorised": both})
        return out

    def subjects(self) -> Subjects:
        """Everybody whom a grant or authorisation ever named, once."""
        return cast(Subjects, _signed_frame(self._signed).select("lo", "hi").unique().to_numpy())

    def names(self, subjects: Subjects) -> npt.NDArray[np.bool_]:
        """(n,) bool: whom any grant or authorisation names, live or not."""
        return _among(subjects, [s[2] for s in self._signed])

    def deleted(self, subjects: Subjects) -> npt.NDArray[np.bool_]:
        """(n,) bool: who asked to be deleted."""
        return _among(subjects, [s for s, _ in self.deletions])

    def _live(self, kind: Kind, wanted: Wanted, recipient: str) -> pl.LazyFrame:
        import polars as pl

        fits = {
            i
            for i, t in enumerate(self.terms)
            if (t.kind, t.purpose, t.recipient) == (kind, wanted.purpose, recipient)
            and set(wanted.classes) <= set(t.classes)
        }
        signed = _signed_frame([s for s in self._signed if s[1] in fits]).lazy()
        revoked = [
            _frame(subjects).with_columns(pl.lit(line).alias("cut"), pl.lit(at).alias("cut_at"))
            for line, at, purpose, who, subjects in self._revoked
            if purpose in ("", wanted.purpose) and who in ("", recipient)
        ]
        if not revoked:
            return signed
        cuts = pl.concat(revoked).lazy().group_by("lo", "hi").agg(pl.col("cut").max(), pl.col("cut_at").max())
        alive = pl.col("cut").is_null() | ((pl.col("line") > pl.col("cut")) & (pl.col("start") > pl.col("cut_at")))
        return signed.join(cuts, on=["lo", "hi"], how="left").filter(alive)


def _among(subjects: Subjects, listed: Sequence[Subjects]) -> npt.NDArray[np.bool_]:
    asked = _frame(subjects).with_row_index("row")
    held = np.zeros(len(subjects), dtype=np.bool_)
    everybody = np.concatenate([subjects[:0], *listed])
    held[asked.join(_frame(everybody), on=["lo", "hi"], how="semi")["row"].to_numpy()] = True
    return held


def _frame(subjects: Subjects) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame({"lo": subjects[:, 0], "hi": subjects[:, 1]}, schema={"lo": pl.UInt64, "hi": pl.UInt64})


def _signed_frame(signed: Sequence[tuple[int, int, Subjects, Seconds, Seconds]]) -> pl.DataFrame:
    import polars as pl

    schema = {"lo": pl.UInt64, "hi": pl.UInt64, "line": pl.Int64, "start": pl.Int64, "end": pl.Int64}
    frames = [
        _frame(subjects).with_columns(
            pl.lit(line, pl.Int64).alias("line"), pl.Series("start", start), pl.Series("end", end)
        )
        for line, _, subjects, start, end in signed
    ]
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)
