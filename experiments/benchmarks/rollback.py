"""`fedprofile registry rollback`: wall seconds of the one command, MLflow told, from a terminal's start to its end.

    python experiments/benchmarks/rollback.py [--runs 5] [--command PATH]

Two quick runs are promoted one after the other, by the commands of the README, then each measured command goes back to
the other. Twice: with MLflow's SQLite file, the default, and with an MLflow server on this machine over such a file.
Beside each: what a process takes that only imports mlflow's client, and what ``registry status --json`` takes, which
asks MLflow as well and writes nothing. ``decided`` is the moment at which the log has its line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from fedprofile.flower.superlink import free_port

IMPORTS = "import mlflow; mlflow.MlflowClient"
BAR = 5.0
PEOPLE = {"wang": "validator", "zhao": "approver", "chen": "operator"}


class Desk:
    """One folder with keys, runs and a registry whose MLflow is at ``uri``; runs command lines in it."""

    def __init__(self, folder: Path, command: str, uri: str) -> None:
        self.folder, self.command, self.uri = folder, command, uri
        self.environment = os.environ | {"FEDPROFILE_HOME": str(folder / "home")}

    def run(self, line: str) -> str:
        done = subprocess.run(
            [self.command, *line.split()],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{line}: {done.stderr}")
        return done.stdout

    def ready(self) -> None:
        """Two champions, one after the other."""
        train = f"train experiment=quick data=k401 tracking=mlflow tracking.uri={self.uri}"
        for seed in (0, 1):
            self.run(f"{train} -q seed={seed} run.dir=run{seed}")
        self.run(f"registry init --root root.key --tracking {self.uri}")
        trainer = self.run("bundle key run0/nodes/bank").strip()
        self.run(f"registry people add li {trainer} --role trainer --root root.key")
        for who, role in PEOPLE.items():
            public = json.loads(self.run(f"registry person new --id {who} --out {who}.key --json"))["key"]
            self.run(f"registry people add {who} {public} --role {role} --root root.key")
        easy_bars(self.folder / "bars.yaml")
        for version in (1, 2):
            home = f"run{version - 1}/nodes/bank"
            self.run(f"registry gate {version} --home {home} --promotion bars.yaml --as wang --key wang.key")
            for who in ("wang", "zhao"):
                self.run(f"registry approve {version} --as {who} --key {who}.key")
            self.run(f"registry promote {version} --as chen --key chen.key")

    def rollback(self) -> dict[str, float]:
        start = time.perf_counter()
        line = "registry rollback --reason benchmark --as chen --key chen.key"
        with subprocess.Popen(
            [self.command, *line.split()], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            decided = time.perf_counter() - start
            said = process.stdout.read()
        seconds = time.perf_counter() - start
        if process.returncode or "champion again" not in first or "MLflow follows." not in said:
            raise SystemExit(f"rollback: {first}{said}")
        return {"rollback": seconds, "decided": decided}

    def timed(self, command: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True, capture_output=True)
        return time.perf_counter() - start


def easy_bars(file: Path) -> None:
    """One round of training clears no real bar, and quality is not what is measured here."""
    from importlib.resources import files

    bars = yaml.safe_load((files("fedprofile.configs") / "promotion" / "default.yaml").read_text())
    for gate in bars["gates"]:
        bars["gates"][gate] |= {"max": 1e6} if "max" in bars["gates"][gate] else {"min": -1e6}
    file.write_text(yaml.safe_dump(bars | {"draws": 20}))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """An MLflow server over an SQLite file, on a free port of this machine."""
    port, mlflow = free_port(), shutil.which("mlflow", path=str(Path(sys.executable).parent))
    uri = f"http://127.0.0.1:{port}"
    words = [mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    with open(folder / "server.log", "w") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                raise SystemExit("the server did not start")
            yield uri
        finally:
            process.terminate()


def measure(desk: Desk, runs: int) -> dict[str, list[float]]:
    desk.ready()
    desk.rollback()  # the first one reads everything from disk
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        seconds = desk.rollback()
        seconds["status"] = desk.timed([desk.command, "registry", "status", "--json"])
        seconds["imports"] = desk.timed([sys.executable, "-c", IMPORTS])
        for name, value in seconds.items():
            found.setdefault(name, []).append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--command", default=str(Path(sys.executable).with_name("fedprofile")))
    given = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in ("file", "server"):
            (folder := Path(place) / name).mkdir()
            if name == "file":
                results[name] = measure(Desk(folder, given.command, f"sqlite:///{folder}/mlflow.db"), given.runs)
            else:
                with server(folder) as uri:
                    results[name] = measure(Desk(folder, given.command, uri), given.runs)
    print(f"seconds, {given.runs} runs each; bar: {BAR:g} for rollback\n\n| | min | median | max |\n|---|---|---|---|")
    for name, found in results.items():
        for what, seconds in found.items():
            row = (min(seconds), statistics.median(seconds), max(seconds))
            print(f"| {name}, {what} | {' | '.join(f'{s:.2f}' for s in row)} |")


if __name__ == "__main__":
    main()
