"""No pickle can be loaded anywhere: the package names no loader of one, and scoring works where every one explodes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fedprofile

MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "skops", "pandas.io.pickle"}
CALLS = {"torch.load", "torch.jit.load", "torch.package", "torch.hub", "read_pickle", "eval", "exec"}
NUMPY = {"np.load", "numpy.load", "np.fromfile"}


def _offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            found += [n for n in whole if n.split(".")[0] in MODULES or n in {*CALLS, "numpy.load"}]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
            if name in CALLS or name.split(".")[-1] == "read_pickle" or (name in NUMPY and not safe):
                found.append(name)
            if any(k.arg == "allow_pickle" and not safe for k in node.keywords):
                found.append(f"{name}(allow_pickle)")
    return found


def test_no_module_of_the_package_names_a_loader_of_pickles() -> None:
    files = sorted(Path(fedprofile.__file__).parent.rglob("*.py"))
    assert len(files) > 100
    assert {str(f): found for f in files if (found := _offences(f.read_text()))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load(x)",
        "from torch import load",
        "import numpy as np\nnp.load(x)",
        "pd.read_pickle(x)",
        "np.load(x, allow_pickle=True)",
        "f(x, allow_pickle=flag)",
        "eval(x)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert _offences(line)


def test_a_bundle_opens_and_scores_where_every_loader_of_pickles_explodes(tmp_path: Path) -> None:
    """In a process of its own, from the first import on; a network, boosters and a linear fusion are in the bundle."""
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", _SCORING, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1:] == ["scored 60 rows, exploded: True"], done.stderr[-2000:]


_SCORING = """
import sys
from pathlib import Path
import numpy as np, polars as pl, torch, pickle, _pickle, joblib, cloudpickle, pandas
from fedprofile.models import tabular_net
from fedprofile.models.bank import BankData, fit_bank
from fedprofile.models.fusion import fit_fusion
from fedprofile.registry.batch import score_file
from fedprofile.registry.bundle import write_bundle
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table, Task

root, rng, n = Path(sys.argv[1]), np.random.default_rng(0), 240
x, tasks = rng.normal(size=n), (Task("need", "binary", 2),)
table = Table(np.arange(n).astype(str), {"age": x}, frozenset())
data = BankData(table, {"need": (x > 0).astype(np.int64)}, np.arange(n) < 180, np.arange(n) >= 180)
tabular_net.STEPS = 5
sums, known = rng.normal(size=(n, 1)), np.ones((n, 1))
model = fit_fusion(data, fit_bank(data, tasks, 0), sums, known, tasks, 0)
write_bundle(root / "b", model, {"roles": ["tax"]}, {}, Identity.from_seed(bytes(32)))
pl.DataFrame({"id": range(60), "age": x[:60], "score.need.0": sums[:60, 0], "known.tax": 1.0}).write_csv(root / "i.csv")

class Explosion(Exception): pass
def explode(*_, **__): raise Explosion
for module, names in ((pickle, "load loads Unpickler _Unpickler"), (_pickle, "load loads Unpickler"),
                      (joblib, "load"), (cloudpickle, "load loads"), (torch, "load"), (torch.jit, "load"),
                      (pandas, "read_pickle")):
    for name in names.split():
        setattr(module, name, explode)
real = np.load
np.load = lambda *a, **k: explode() if k.get("allow_pickle") else real(*a, **k)
done = score_file(root / "b", root / "i.csv", root / "o.csv")
try:
    pickle.loads(b"N.")
    exploded = False
except Explosion:
    exploded = True
print(f"scored {done['rows']} rows, exploded: {exploded}")
"""
