"""Who is scored: nobody without a live grant, nobody with partners' scores without the second authorisation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedprofile.data.ids import normalise_ids
from fedprofile.errors import DataError
from fedprofile.governance.permits import Permit

if TYPE_CHECKING:
    import polars as pl

    from fedprofile.registry.bundle import Bundle


def permitted_rows(frame: pl.DataFrame, bundle: Bundle, permit: Permit, file: str) -> pl.DataFrame:
    """The rows of customers whom ``permit`` lets the bank score now; partners' scores are taken from those whose
    permit does not cover a joint model, who then get the bank-alone score.

    Raises DataError where the frame has no usable id column: nobody's consent could be looked up.
    """
    import polars as pl

    name = bundle.meta.get("id")
    if name not in frame.columns or frame[name].null_count():
        mend = "Consent is looked up by id: every row needs one."
        raise DataError(file, "ids are missing", mend, column=str(name))
    ids, at = normalise_ids(frame[name].cast(pl.String).to_list()), datetime.now(UTC)
    own, joint = permit.allowed(ids, "own", at), permit.allowed(ids, "score", at)
    views = [c for c in bundle.view_columns if c in frame.columns]
    voided = [pl.when(pl.Series(joint)).then(pl.col(c)).alias(c) for c in views]
    return frame.with_columns(voided).filter(pl.Series(own))
