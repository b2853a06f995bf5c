"""Secure sum against Flower SecAgg+, Flower's plaintext mean, a tuned mean and CKKS: ratios in one process.

    OMP_NUM_THREADS=1 python experiments/benchmarks/secure_sum.py [--quick] [--repeats 5] [--threads 2] [--memory]

Every repeat runs all peers one after another on the same vectors; a ratio is taken within a repeat, and its minimum
and median over the repeats are printed. Every sum that is opened is compared with the sum of the integers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from secure_peers import FlowerSecAggPlus, TenSeal, Vector, plaintext_mean, plaintext_records, tuned_mean
from secure_session import Consortium

from fedprofile.secagg.encoding import dequantise, quantise, unpack, vectors
from fedprofile.secagg.keystream import fastest
from fedprofile.secagg.masking import add_masks, add_vectors
from fedprofile.types import Layout, Ring, Segment

PROFILES = ("strict", "resilient")  # resilient: one self-mask more a node, which the coordinator takes off
CLIP = 1.0
NEIGHBOURS = 22  # of 100 nodes, malicious server, 5 % corrupt, 5 % dropped
MEMORY_BAR = 64
T = TypeVar("T")
Pads = list[tuple[bytes, int]]


class Clock:
    """Wall and processor seconds by name, one entry a repeat."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def __call__(self, name: str, call: Callable[[], T]) -> T:
        start = time.perf_counter(), time.process_time()
        result = call()
        self.seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        return result

    def ratios(self, above: str, below: str) -> list[list[float]]:
        """[by wall clock, by processor time]; a peer that ran in the first repeat only gives one ratio."""
        pairs = list(zip(self.seconds[above], self.seconds[below], strict=False))
        return [[a[i] / b[i] for a, b in pairs] for i in (0, 1)]


def layout(d: int, ring: Ring, members: int) -> Layout:
    return Layout((Segment.fitted("w", (d,), ring, CLIP, members),))


def pair_pads(n: int, me: int) -> Pads:
    """A key for each pair of nodes, and the sign of the one that is ``me``."""
    keys = ((min(me, j), max(me, j)) for j in range(n) if j != me)
    return [(bytes([a, b] * 16), 1 if me == a else -1) for a, b in keys]


def self_key(node: int) -> bytes:
    return bytes([255, node] * 16)


def protect(vector: Vector, where: Layout, pads: Pads, threads: int) -> npt.NDArray[np.unsignedinteger]:
    """A node's masking alone: quantise, then every pad, in place (a session keeps the integers for a retry)."""
    y = quantise({"w": vector}, where, os.urandom, threads=threads).values["w"]
    add_masks({where.segments[0].ring: y}, pads, threads=threads)
    return y


def opening(ys: list[npt.NDArray[Any]], where: Layout, pads: Pads, threads: int) -> npt.NDArray[np.float64]:
    """A coordinator's opening alone: sum, self-masks off (none in the strict profile), values."""
    ring, total = where.segments[0].ring, vectors(bytearray(where.nbytes), where)
    add_vectors(total, [{ring: y} for y in ys], threads=threads)
    add_masks(total, pads, threads=threads)
    return dequantise(unpack(total, where), where, threads=threads)["w"]


def touch(arrays: Iterable[npt.NDArray[Any]]) -> None:
    """Reads a byte of every page, so that no peer pays for memory that the system put away meanwhile."""
    for array in arrays:
        array.view(np.uint8)[::4096].max()


def close(opened: npt.NDArray[np.floating], exact: npt.NDArray[np.float64], step: float) -> None:
    """Every node's rounding moves its value by less than one step."""
    if not np.abs(opened - exact).max() < step:
        raise SystemExit("an opened sum is wrong")


@dataclass(frozen=True)
class Case:
    """The vectors, their exact sum, and what each profile's nodes sent in Z_2^16."""

    values: list[Vector]
    exact: npt.NDArray[np.float64]
    sent: dict[str, list[npt.NDArray[Any]]]
    threads: int

    @staticmethod
    def of(d: int, n: int, threads: int) -> Case:
        rng = np.random.default_rng(0)
        values = [np.clip(rng.normal(0, 0.1, d), -0.99, 0.99).astype(np.float32) for _ in range(n)]
        sent = {
            p: [protect(v, layout(d, 16, n), pads(p, n, i), threads) for i, v in enumerate(values)] for p in PROFILES
        }
        return Case(values, np.sum(values, axis=0, dtype=np.float64), sent, threads)


def pads(profile: str, n: int, me: int) -> Pads:
    return pair_pads(n, me) + ([(self_key(me), 1)] if profile == "resilient" else [])


def run(case: Case, repeats: int, ckks: TenSeal | None, clock: Clock) -> None:
    values, exact, n, threads = case.values, case.exact, len(case.values), case.threads
    flower, records = FlowerSecAggPlus(n, CLIP), plaintext_records(values)
    consortium, masked = Consortium(n, threads), [flower.mask(i, v) for i, v in enumerate(values)]
    for repeat in range(repeats):
        touch(values)
        clock("flower client", lambda: flower.mask(0, values[0]))
        touch(parts[1] for parts in masked)
        close(clock("flower server", lambda: flower.open(masked)) * n, exact, n * 2 * CLIP / (1 << 22))
        plaintext_mean(records)
        touch(values)
        close(clock("flower plain", lambda: plaintext_mean(records)) * n, exact, 1e-4)
        tuned_mean(values, threads)
        close(clock("tuned", lambda: tuned_mean(values, threads)) * np.float64(n), exact, 1e-4)
        if ckks is not None and repeat == 0:
            clock("ckks client", lambda: ckks.encrypt(values[0]))
        primitives(case, clock)
        whole(consortium, case, clock)


def primitives(case: Case, clock: Clock) -> None:
    n, d, threads = len(case.values), len(case.exact), case.threads
    for profile in PROFILES:
        for ring in (16, 32):
            call = partial(protect, case.values[0], layout(d, ring, n), pads(profile, n, 0), threads)
            call()  # warm, as Flower's client is
            clock(f"{profile} client {ring}", call)
        where, selves = layout(d, 16, n), [(self_key(i), -1) for i in range(n)]
        off = selves if profile == "resilient" else []
        opens = partial(opening, case.sent[profile], where, off, threads)
        close(opens(), case.exact, n * where.segments[0].scale)  # warm, like the peers
        close(clock(f"{profile} server 16", opens), case.exact, n * where.segments[0].scale)
    neighbours = [(bytes([i] * 32), 1) for i in range(NEIGHBOURS + 1)]
    for ring in (16, 32):
        clock(f"n=100 client {ring}", partial(protect, case.values[0], layout(d, ring, 100), neighbours, threads))


def whole(consortium: Consortium, case: Case, clock: Clock) -> None:
    """Sessions end to end: the model hashed on both sides, y hashed and signed, uploads verified before they add."""
    where, model = layout(len(case.exact), 16, len(case.values)), case.values[0].tobytes()
    begun = clock("round", lambda: consortium.begin(where, model))
    client = clock("whole client", lambda: consortium.upload(0, begun, case.values[0]))
    uploads = [client] + [consortium.upload(i, begun, v) for i, v in enumerate(case.values) if i]
    opened = clock("open", lambda: consortium.open(uploads))
    parts = clock.seconds["round"][-1], clock.seconds["open"][-1]
    clock.seconds["whole server"].append((parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]))
    close(opened, case.exact, len(case.values) * where.segments[0].scale)


# what, in which profiles, its clock, the peer's clock, the peer, times faster at least
BARS = (
    ("masking alone, u16 client", PROFILES, "{} client 16", "flower client", "Flower SecAgg+", 35),
    ("masking alone, u32 client", PROFILES, "{} client 32", "flower client", "Flower SecAgg+", 25),
    ("masking alone, u16 client", PROFILES, "{} client 16", "ckks client", "TenSEAL CKKS", 200),
    ("opening alone, u16 server", PROFILES, "{} server 16", "flower server", "Flower SecAgg+", 50),
    ("opening alone, u16 server", PROFILES, "{} server 16", "flower plain", "Flower plaintext", 8),
    ("whole step, u16 client", ("strict",), "whole client", "flower client", "Flower SecAgg+", 15),
    ("whole step, u16 server", ("strict",), "whole server", "flower plain", "Flower plaintext", 1.5),
)


def table(clock: Clock) -> list[str]:
    """Markdown rows: times faster than the peer (more is better), then times as long (less is better)."""
    rows = ["| what | against | bar | min | median | processor time: median |", "|---|---|---|---|---|---|"]
    for what, profiles, ours, peer, name, bar in BARS:
        if peer not in clock.seconds:
            continue
        for profile in profiles:
            ratios = clock.ratios(peer, ours.format(profile))
            rows.append(_row(f"{what}, {profile}", f"{name}, times faster", f">= {bar}", ratios))
    for profile in PROFILES:
        ratios = clock.ratios(f"{profile} server 16", "tuned")
        rows.append(_row(f"opening alone, u16 server, {profile}", "tuned mean, times as long", "<= 1.6", ratios))
    for ring in (16, 32):
        ratios = clock.ratios(f"n=100 client {ring}", f"resilient client {ring}")
        rows.append(_row(f"n = 100, u{ring} client, resilient", "n = 10, times as long", "<= 2.5", ratios))
    return rows


def _row(what: str, against: str, bar: str, ratios: list[list[float]]) -> str:
    wall, cpu = ratios
    figures = (min(wall), statistics.median(wall), statistics.median(cpu))
    return " | ".join(("| " + what, against, bar, *(f"{f:.2f}" for f in figures))) + " |"


def peak_memory(d: int, threads: int) -> None:
    """Prints MB of peak above a float32 vector and its masked vector; run it in a process of its own."""
    where = layout(d, 16, 10)
    values = np.full(d, 0.25, np.float32)
    before = _peak()
    protect(values, where, pair_pads(10, 0), threads)
    print((_peak() - before - where.nbytes) / 1e6)


def _peak() -> int:
    """Bytes of the largest resident set of this process; getrusage would count what the parent held before exec."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a million parameters, two repeats: seconds, no verdict")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, metavar="D", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        return peak_memory(args.memory, args.threads)
    d, n, repeats = (10**6, 10, 2) if args.quick else (10**7, 10, args.repeats)
    try:
        ckks = TenSeal()
    except ImportError:
        ckks = None
        print("TenSEAL: not installed, skipped")
    clock = Clock()
    run(Case.of(d, n, args.threads), repeats, ckks, clock)
    print(f"d = {d}, n = {n}, {args.threads} threads, {repeats} repeats, keystream {fastest()}\n")
    print(*table(clock), sep="\n")
    child = [sys.executable, __file__, "--memory", str(d * 10), "--threads", str(args.threads)]
    extra = float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    print(
        f"| memory, d = {d * 10}, u16 client | MB above update and masked vector | <= {MEMORY_BAR} | {extra:.0f} | | |"
    )
    for i, unit in enumerate(("wall", "processor")):
        print(f"\nleast ms, {unit}:", {k: round(min(t[i] for t in v) * 1e3, 1) for k, v in clock.seconds.items()})


if __name__ == "__main__":
    main()
