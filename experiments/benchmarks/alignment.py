"""Private set intersection against openmined-psi, n customers on either side, pair by pair in one run.

    python3 -m venv .psi && .psi/bin/pip install openmined-psi
    FEDPROFILE_OPENMINED_PYTHON=.psi/bin/python python experiments/benchmarks/alignment.py --ids 100000 --pairs 3

Both parties work on this machine: ours one after the other, each with all cores where it starts workers; openmined's as
two processes of one core each, at the same time where its protocol lets them. Processor time does not depend on what
else the machine does; seconds do. openmined-psi is left out with a word where no interpreter is named.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from fedprofile.alignment.psi import Owner, Partner
from fedprofile.alignment.suites import SUITES
from fedprofile.node.randomness import keystream_source

SHARED = 0.5
"""Share of the partner's customers that the label owner has as well."""
ORACLE = "FEDPROFILE_OPENMINED_PYTHON"


@dataclass(frozen=True)
class Cost:
    """Of both parties together, in seconds: by the clock, and of all processors."""

    seconds: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=20_000, help="customers on either side")
    parser.add_argument("--pairs", type=int, default=3, help="how often both run, in turns")
    arguments = parser.parse_args()
    n, python = arguments.ids, os.environ.get(ORACLE)
    if python is None:
        print(f"openmined-psi: skipped, {ORACLE} names no interpreter that has it")
    ratios = []
    for _ in range(arguments.pairs):
        ours = report("fedprofile psi", n, fedprofile_psi(n))
        if python is not None:
            theirs = report("openmined-psi", n, openmined_psi(python, n))
            ratios.append((theirs.seconds / ours.seconds, theirs.processor / ours.processor))
    for name, each in zip(("the clock", "processor time"), zip(*ratios, strict=True), strict=False):
        spread = ", ".join(f"{ratio:.2f}" for ratio in sorted(each))
        print(f"fedprofile is {median(each):.2f} x as fast by {name} (median of {spread})")


def fedprofile_psi(n: int) -> Cost:
    shared = int(n * SHARED)
    bank = np.array([f"BENCH-{i:09d}" for i in range(n)])
    tax = np.array([f"BENCH-{i:09d}" for i in range(n - shared, 2 * n - shared)])
    plan, suite = bytes(32), SUITES["psi"]
    wall, cpu = time.perf_counter(), processor_seconds()
    with step("label owner: own customers", n):
        owner = Owner(bank, plan, suite, keystream_source(b"a" * 32))
    with step("partner: points", n):
        partner = Partner(tax, "tax", plan, suite, keystream_source(b"b" * 32))
        points = partner.points()
    with step("label owner: answer", n):
        answer = owner.answer(points)
    with step("partner: match", n):
        match = partner.match(answer, owner.size, owner.hash)
    with step("label owner: claims", n):
        known = owner.known("tax", match.claims)
    cost = Cost(time.perf_counter() - wall, processor_seconds() - cpu)
    assert known.sum() == shared, f"fedprofile found {known.sum()} customers"
    return cost


def openmined_psi(python: str, n: int) -> Cost:
    script, shared = Path(__file__).with_name("openmined_parties.py"), int(n * SHARED)
    done = subprocess.run([python, str(script), str(n), str(shared)], check=True, capture_output=True)
    measured = json.loads(done.stdout)
    assert measured["found"] == shared, f"openmined-psi found {measured['found']} customers"
    return Cost(measured["seconds"], measured["processor"])


@contextmanager
def step(name: str, n: int) -> Iterator[None]:
    wall, cpu = time.perf_counter(), processor_seconds()
    yield
    line("", name, n, Cost(time.perf_counter() - wall, processor_seconds() - cpu))


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def report(name: str, n: int, cost: Cost) -> Cost:
    line(name, "both parties", n, cost)
    return cost


def line(name: str, what: str, n: int, cost: Cost) -> None:
    each = f"{1e6 * cost.processor / n:6.0f} us a customer"
    print(f"{name:<15} {what:<27} {cost.seconds:8.2f} s {cost.processor:8.2f} s of processor time {each}")


if __name__ == "__main__":
    main()
