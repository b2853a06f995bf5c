"""Private set intersection against openmined-psi, n customers on either side: seconds, and customers a core-second.

    OMP_NUM_THREADS=1 python experiments/benchmarks/alignment.py --ids 100000

Both parties run one after the other in this process, each with all cores where it starts workers. Processor time
counts those workers too, so it does not depend on what else the machine does; seconds do. openmined-psi is left out
with a word where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from fedprofile.alignment.psi import Owner, Partner
from fedprofile.alignment.suites import SUITES
from fedprofile.node.randomness import keystream_source

SHARED = 0.5
"""Share of the partner's customers that the label owner has as well."""
Cost = dict[str, tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=20_000, help="customers on either side")
    n = parser.parse_args().ids
    bank = np.array([f"BENCH-{i:09d}" for i in range(n)])
    tax = np.array([f"BENCH-{i:09d}" for i in range(n - int(n * SHARED), 2 * n - int(n * SHARED))])
    ours = report("fedprofile psi", n, lambda cost: fedprofile_psi(bank, tax, cost))
    try:
        other = importlib.import_module("private_set_intersection.python")
    except ImportError:
        print("openmined-psi: skipped, it is not installed (its protobuf pin conflicts with Flower's)")
        return
    theirs = report("openmined-psi", n, lambda cost: openmined_psi(other, bank, tax, cost))
    print(
        f"fedprofile is {theirs[0] / ours[0]:.2f} x faster by the clock, {theirs[1] / ours[1]:.2f} x by processor time"
    )


def fedprofile_psi(bank: np.ndarray, tax: np.ndarray, cost: Cost) -> int:
    plan, suite = bytes(32), SUITES["psi"]
    with timed(cost, "label owner: own customers"):
        owner = Owner(bank, plan, suite, keystream_source(b"a" * 32))
    with timed(cost, "partner: points"):
        partner = Partner(tax, "tax", plan, suite, keystream_source(b"b" * 32))
        points = partner.points()
    with timed(cost, "label owner: answer"):
        answer = owner.answer(points)
    with timed(cost, "partner: match"):
        match = partner.match(answer, owner.size, owner.hash)
    with timed(cost, "label owner: claims"):
        known = owner.known("tax", match.claims)
    return int(known.sum())


def openmined_psi(psi: object, bank: np.ndarray, tax: np.ndarray, cost: Cost) -> int:
    client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)  # type: ignore[attr-defined]
    with timed(cost, "server: set-up"):
        setup = server.CreateSetupMessage(1e-9, len(tax), bank.tolist(), psi.DataStructure.RAW)  # type: ignore[attr-defined]
    with timed(cost, "client: request"):
        request = client.CreateRequest(tax.tolist())
    with timed(cost, "server: response"):
        response = server.ProcessRequest(request)
    with timed(cost, "client: intersection"):
        return len(client.GetIntersection(setup, response))


@contextmanager
def timed(cost: Cost, step: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), processor_seconds()
    yield
    cost[step] = time.perf_counter() - wall, processor_seconds() - cpu


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def report(name: str, n: int, run: Callable[[Cost], int]) -> tuple[float, float]:
    """Prints one row a step; returns (seconds, processor seconds) of all."""
    cost: Cost = {}
    found = run(cost)
    assert found == int(n * SHARED), f"{name} found {found} customers"
    total = tuple(sum(part) for part in zip(*cost.values(), strict=True))
    for step, (wall, cpu) in [*cost.items(), ("both parties", total)]:
        print(f"{name:<15} {step:<27} {wall:8.1f} s {cpu:8.1f} s of processor time {1e6 * cpu / n:6.0f} us a customer")
    print(f"{name:<15} {n / total[1]:.0f} customers aligned a core-second")
    return total[0], total[1]


if __name__ == "__main__":
    main()
