"""Secure sum against Flower SecAgg+, Flower's plaintext mean, a tuned mean and CKKS: ratios in one process.

    OMP_NUM_THREADS=1 python experiments/benchmarks/secure_sum.py [--quick] [--repeats 5] [--threads 2] [--memory]

Every repeat runs all peers one after another on the same vectors; a ratio is taken within a repeat, and its minimum
and median over the repeats are printed. Every sum that is opened is compared with the sum of the integers.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from secure_peers import FlowerSecAggPlus, TenSeal, Vector, plaintext_mean, plaintext_records, tuned_mean
from secure_session import Consortium

from fedprofile.secagg.encoding import dequantise, pack, quantise, unpack, vectors
from fedprofile.secagg.keystream import fastest
from fedprofile.secagg.masking import add_masks, add_vectors
from fedprofile.types import Layout, Ring, Segment

CLIP = 1.0
NEIGHBOURS = 22  # of 100 nodes, malicious server, 5 % corrupt, 5 % dropped
MEMORY_BAR = 64
T = TypeVar("T")
Pads = list[tuple[bytes, int]]


class Clock:
    """Seconds by name, one entry a repeat."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def __call__(self, name: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = call()
        self.seconds[name].append(time.perf_counter() - start)
        return result

    def ratios(self, above: str, below: str) -> list[float]:
        return [a / b for a, b in zip(self.seconds[above], self.seconds[below], strict=False)]


def layout(d: int, ring: Ring, members: int) -> Layout:
    return Layout((Segment.fitted("w", (d,), ring, CLIP, members),))


def pair_pads(n: int, me: int) -> Pads:
    """A key for each pair of nodes, and the sign of the one that is ``me``."""
    keys = ((min(me, j), max(me, j)) for j in range(n) if j != me)
    return [(bytes([a, b] * 16), 1 if me == a else -1) for a, b in keys]


def self_key(node: int) -> bytes:
    return bytes([255, node] * 16)


def protect(vector: Vector, where: Layout, pads: Pads, threads: int) -> bytearray:
    """A node's masking alone: quantise, then every pad."""
    y = pack(quantise({"w": vector}, where, os.urandom, threads=threads), where, threads=threads)
    add_masks(vectors(y, where), pads, threads=threads)
    return y


def opening(ys: list[bytearray], where: Layout, pads: Pads, threads: int) -> npt.NDArray[np.float64]:
    """A coordinator's opening alone: sum, self-masks off (none in the strict profile), values."""
    total = vectors(bytearray(where.nbytes), where)
    add_vectors(total, [vectors(y, where) for y in ys], threads=threads)
    add_masks(total, pads, threads=threads)
    return dequantise(unpack(total, where), where, threads=threads)["w"]


def close(opened: npt.NDArray[np.floating], exact: npt.NDArray[np.float64], step: float) -> None:
    """Every node's rounding moves its value by less than one step."""
    if not np.abs(opened - exact).max() < step:
        raise SystemExit("an opened sum is wrong")


def run(d: int, n: int, threads: int, repeats: int, ckks: TenSeal | None, clock: Clock) -> None:
    rng = np.random.default_rng(0)
    values = [np.clip(rng.normal(0, 0.1, d), -0.99, 0.99).astype(np.float32) for _ in range(n)]
    exact = np.sum(values, axis=0, dtype=np.float64)
    flower, records, out = FlowerSecAggPlus(n, CLIP), plaintext_records(values), np.empty(d, np.float32)
    consortium = Consortium(n, threads)
    flower_masked = [flower.mask(i, v) for i, v in enumerate(values)]
    for repeat in range(repeats + 1):
        if repeat == 1:
            clock.seconds.clear()  # the first one warmed up
        clock("flower client", lambda: flower.mask(0, values[0]))
        close(clock("flower server", lambda: flower.open(flower_masked)) * n, exact, n * 2 * CLIP / (1 << 22))
        close(clock("flower plain", lambda: plaintext_mean(records)) * n, exact, 1e-4)
        close(clock("tuned", lambda: tuned_mean(values, out, threads)) * np.float64(n), exact, 1e-4)
        if ckks is not None and repeat <= 1:
            clock("ckks client", lambda: ckks.encrypt(values[0]))
        for ring in (16, 32):
            primitives(values, exact, ring, threads, clock)
            whole(consortium, values, exact, ring, clock)


def primitives(values: list[Vector], exact: npt.NDArray[np.float64], ring: Ring, threads: int, clock: Clock) -> None:
    n, where = len(values), layout(len(exact), ring, len(values))
    step, selves = where.segments[0].scale, [(self_key(i), -1) for i in range(n)]
    for profile in ("strict", "resilient"):
        double = profile == "resilient"
        ys = []
        for i, v in enumerate(values):
            pads = pair_pads(n, i) + ([(self_key(i), 1)] if double else [])
            y = clock(f"{profile} client {ring}", lambda v=v, p=pads: protect(v, where, p, threads)) if i == 0 else None
            ys.append(y or protect(v, where, pads, threads))
        off = selves if double else []
        opened = clock(f"{profile} server {ring}", lambda ys=ys, off=off: opening(ys, where, off, threads))
        close(opened, exact, n * step)
    ring_graph = [(bytes([i] * 32), 1) for i in range(NEIGHBOURS + 1)]
    hundred = layout(len(exact), ring, 100)
    clock(f"n=100 client {ring}", lambda: protect(values[0], hundred, ring_graph, threads))


def whole(
    consortium: Consortium, values: list[Vector], exact: npt.NDArray[np.float64], ring: Ring, clock: Clock
) -> None:
    """Sessions end to end: the model hashed on both sides, y hashed and signed, uploads verified before they add."""
    where = layout(len(exact), ring, len(values))
    begun = clock(f"whole server {ring}", lambda: consortium.begin(where, values[0].tobytes()))
    client = clock(f"whole client {ring}", lambda: consortium.upload(0, begun, values[0]))
    uploads = [client] + [consortium.upload(i, begun, v) for i, v in enumerate(values) if i]
    start = time.perf_counter()
    opened = consortium.open(uploads)
    clock.seconds[f"whole server {ring}"][-1] += time.perf_counter() - start
    close(opened, exact, len(values) * where.segments[0].scale)


BARS = [
    ("masking alone, u16 client", "flower client", "{p} client 16", "Flower SecAgg+", 35),
    ("masking alone, u32 client", "flower client", "{p} client 32", "Flower SecAgg+", 25),
    ("masking alone, u16 client", "ckks client", "{p} client 16", "TenSEAL CKKS", 200),
    ("opening alone, u16 server", "flower server", "{p} server 16", "Flower SecAgg+", 50),
    ("opening alone, u16 server", "flower plain", "{p} server 16", "Flower plaintext", 8),
    ("whole step, u16 client", "flower client", "whole client 16", "Flower SecAgg+", 15),
    ("whole step, u16 server", "flower plain", "whole server 16", "Flower plaintext", 1.5),
]


def table(clock: Clock) -> list[str]:
    """Markdown rows: times faster than the peer (more is better), then times as long (less is better)."""
    rows = ["| what | against | bar | min | median |", "|---|---|---|---|---|"]
    for what, peer, ours, name, bar in BARS:
        for profile in ("strict", "resilient") if "{p}" in ours else ("",):
            label = f"{what}, {profile}" if profile else f"{what}, strict"
            if peer in clock.seconds:
                rows.append(
                    _row(label, f"{name}, times faster", f">= {bar}", clock.ratios(peer, ours.format(p=profile)))
                )
    for profile in ("strict", "resilient"):
        ratios = clock.ratios(f"{profile} server 16", "tuned")
        rows.append(
            _row(f"opening alone, u16 server, {profile}", "tuned float32 mean, times as long", "<= 1.6", ratios)
        )
    for ring in (16, 32):
        ratios = clock.ratios(f"n=100 client {ring}", f"resilient client {ring}")
        rows.append(_row(f"n = 100, u{ring} client, resilient", "n = 10, times as long", "<= 2.5", ratios))
    return rows


def _row(what: str, against: str, bar: str, ratios: list[float]) -> str:
    return f"| {what} | {against} | {bar} | {min(ratios):.2f} | {statistics.median(ratios):.2f} |"


def peak_memory(d: int, threads: int) -> None:
    """Prints MB of peak above a float32 vector, its integers and its masked vector; run it in a process of its own."""
    where = layout(d, 16, 10)
    values = np.full(d, 0.25, np.float32)
    protect(values[: 1 << 20], layout(1 << 20, 16, 10), pair_pads(10, 0), threads)  # imports, threads, buffers
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    protect(values, where, pair_pads(10, 0), threads)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6 - 2 * where.nbytes / 1e6)


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
    run(d, n, args.threads, repeats, ckks, clock)
    print(f"d = {d}, n = {n}, {args.threads} threads, {repeats} repeats, keystream {fastest()}\n")
    print(*table(clock), sep="\n")
    child = [sys.executable, __file__, "--memory", str(d * 10), "--threads", str(args.threads)]
    extra = float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    print(
        f"| memory of a client's masking, d = {d * 10}, u16 | MB above the vectors | <= {MEMORY_BAR} | {extra:.0f} | |"
    )
    print("\nmilliseconds, least:", {k: round(min(v) * 1e3, 1) for k, v in clock.seconds.items()})


if __name__ == "__main__":
    main()
