"""Score a file of customers with a bundle: files in, files out, and mistakes named before anything is written."""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.errors import DataError, FedprofileError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from fedprofile.governance.permits import Permit
    from fedprofile.registry.bundle import Bundle
    from fedprofile.registry.seal import Trust
    from fedprofile.registry.shadowing import Columns

OUTPUTS = (".csv", ".parquet")


@dataclass(frozen=True)
class Shadow:
    """The bundle that scores silently beside a registry's champion. ``registry``: where counts are kept."""

    registry: Path
    folder: Path
    trust: Trust


def score_file(
    bundle: Path,
    source: Path,
    output: Path,
    *,
    force: bool = False,
    permit: Permit | None = None,
    trust: Trust | None = None,
    shadow: Shadow | None = None,
    finished: Collection[str] | None = None,
) -> dict[str, Any]:
    """Write ``output``: the id column where ``source`` has it, ``<task>.p<k>`` or ``<task>.p``, and ``<task>``.

    With ``permit`` only customers whom it allows are in it (``registry.consented``). The partners' summed scores in
    ``source`` are left out where they cannot be of this bundle's encoders (``serving.why_bank_alone``, which takes
    ``finished``).
    Returns rows, out, tasks, and scores: "fused" where those sums were used, else "bank alone"; why_alone, where the
    bundle is served so; key (hex, who signed the bundle) and pinned (whether ``trust`` asked for it); with ``permit``
    also how many rows were withheld, and with ``shadow`` its name, or why it could not score: the answer is the
    champion's alone.
    Raises UsageError or DataError, before anything is written.
    """
    _check_paths(source, output, force=force)
    import torch

    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.serving import why_bank_alone

    # The last digits of a score must not depend on how many cores there are.
    torch.set_num_threads(1)
    opened = open_bundle(bundle, trust)
    everybody, alone = read_customers(source, opened), why_bank_alone(opened.meta, finished)
    if alone is not None:
        everybody = everybody.drop(opened.view_columns, strict=False)
    frame = _permitted(everybody, opened, permit, source.name)
    if not len(frame) and len(everybody):
        raise DataError(source.name, "nobody in it may be scored", "Look at `fedprofile consent show`.")
    views = set(opened.view_columns) & set(frame.columns)
    columns = columns_of(frame, opened, source.name)
    probabilities = opened.score_columns(columns)
    result = _result(frame, opened, probabilities)
    _write(result, output)
    summary = {"rows": len(result), "out": str(output), "tasks": [t.name for t in opened.tasks]}
    summary |= {"scores": "fused" if views else "bank alone", "key": opened.seal.key, "pinned": opened.seal.pinned}
    if alone is not None:
        summary["why_alone"] = alone
    if permit is not None:
        summary["withheld"] = len(everybody) - len(frame)
    return (
        summary if shadow is None else summary | {"shadow": _beside(shadow, opened, columns, everybody, permit, source)}
    )


def _permitted(frame: pl.DataFrame, bundle: Bundle, permit: Permit | None, file: str) -> pl.DataFrame:
    from fedprofile.registry.consented import permitted_rows

    return frame if permit is None else permitted_rows(frame, bundle, permit, file)


def _beside(
    shadow: Shadow, champion: Bundle, columns: Columns, everybody: pl.DataFrame, permit: Permit | None, source: Path
) -> str:
    """Whatever is wrong with a shadow, the champion has answered."""
    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.frames import require_columns
    from fedprofile.registry.shadowing import remember, score_beside

    try:
        other = open_bundle(shadow.folder, shadow.trust)
        require_columns(everybody.columns, other.schema.columns, source.name)
        others = columns_of(_permitted(everybody, other, permit, source.name), other, source.name)
        found = score_beside(champion, other, columns, others)
        remember(shadow.registry, champion.seal.manifest, other.seal.manifest, found)
        return other.seal.manifest
    except FedprofileError as error:
        return f"did not score: {error}"


def _check_paths(source: Path, output: Path, *, force: bool) -> None:
    if output.suffix not in OUTPUTS:
        raise UsageError(f"OUT {output.name!r} has an unknown format", f"Use one of {', '.join(OUTPUTS)}.")
    if not source.is_file():
        raise UsageError(f"IN {source.name!r} is missing", "Give a CSV, CSV.gz or Parquet file.")
    if output.exists() and (output.is_dir() or not force):
        raise UsageError(f"OUT {output.name!r} exists", "Choose another name, or add --force to overwrite a file.")
    if not output.parent.is_dir():
        raise UsageError(f"the folder of OUT {output.name!r} is missing", "Make it first.")


def read_customers(source: Path, bundle: Bundle) -> pl.DataFrame:
    """The cells of ``source`` as text. Raises DataError for what is no table, or lacks a column of the bundle."""
    from fedprofile.data.reading import read_frame
    from fedprofile.registry.frames import require_columns

    first = bundle.schema.columns[0]
    try:
        frame = read_frame(source.parent, source.name, first)
    except DataError as error:
        if error.column == first and "id column" in error.what:
            require_columns([], [first], source.name)
        raise
    require_columns(frame.columns, bundle.schema.columns, source.name)
    return frame


def columns_of(frame: pl.DataFrame, bundle: Bundle, file: str) -> dict[str, npt.NDArray[Any]]:
    """The bundle's columns as arrays of numbers or text. Raises DataError, naming ``file``, for other text."""
    from fedprofile.data.columns import numbers, texts

    numeric = {*bundle.schema.numeric, *bundle.view_columns}
    found: dict[str, npt.NDArray[Any]] = {c: numbers(frame[c], file) for c in frame.columns if c in numeric}
    return found | {c: texts(frame[c], file).to_numpy() for c in bundle.schema.categorical}


def _result(frame: pl.DataFrame, bundle: Bundle, probabilities: dict[str, npt.NDArray[np.float64]]) -> pl.DataFrame:
    import polars as pl

    out: dict[str, Any] = {}
    name = bundle.meta.get("id")
    if name in frame.columns:
        out[name] = frame[name]
    for task in bundle.tasks:
        p = probabilities[task.name]
        names = [f"{task.name}.p{k}" for k in range(task.classes)] if task.kind == "ordinal" else [f"{task.name}.p"]
        out |= dict(zip(names, p.T if task.kind == "ordinal" else p.T[1:], strict=True))
        out[task.name] = bundle.decide(task, p)
    return pl.DataFrame(out)


def _write(result: pl.DataFrame, output: Path) -> None:
    buffer = io.BytesIO()
    if output.suffix == ".parquet":
        result.write_parquet(buffer)
    else:
        result.write_csv(buffer)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
