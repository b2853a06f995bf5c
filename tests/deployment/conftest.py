"""Reads Prometheus' text format by its grammar, strictly."""

from __future__ import annotations

import re

import pytest

SAMPLE = re.compile(r'([a-z_]+)(?:\{([a-z]+)="((?:[^"\\\n]|\\\\|\\n|\\")*)"\})? (\S+)')
UNQUOTED = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}


def read(text: str) -> dict[tuple[str, str | None], float]:
    """Name and label value -> value; every line is HELP, TYPE or a sample of the family above it."""
    found, family = {}, ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
        elif line.startswith("# TYPE "):
            assert re.fullmatch(rf"# TYPE {family} (gauge|counter)", line)
        else:
            name, _, value, number = SAMPLE.fullmatch(line).groups()
            assert name == family
            unquoted = None if value is None else re.sub(r'\\[\\n"]', lambda m: UNQUOTED[m[0]], value)
            assert (name, unquoted) not in found
            found[name, unquoted] = float(number)
    return found


@pytest.fixture(scope="session")
def read_metrics():
    return read
