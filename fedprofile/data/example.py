"""The example that `fedprofile data init` writes: invented customers, and a federation.yaml that explains itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedprofile.data.federation import Federation, make_federation
from fedprofile.data.spec import MAX_PARTIES, NAME
from fedprofile.errors import UsageError
from fedprofile.types import Labels, Table, Task

CUSTOMERS = 600
# An amount, a number between 18 and 90, a count with gaps, a kind.
_KNOWN = {
    "bank": ("balance_cny", "age", "products", "city_class"),
    "ecommerce": ("basket_cny", "days_since_order", "returns", "favourite_aisle"),
    "medical": ("yearly_cost_cny", "stress_score", "visits", "insurance_class"),
    "tax": ("declared_income_cny", "deducted_percent", "household_size", "industry"),
}
_OTHER = ("amount", "score", "visits", "kind")
_RESERVED = ("labels", "yes", "no", "on", "off", "true", "false", "null")
_TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))

_YAML = """\
# A federation folder, format 1. `fedprofile data check DIR` says what is wrong with it.
# The customers in these tables are invented (EXAMPLE-0001 and so on): replace them with your own.
format: 1
name: example
# The id column: the same name in every table, the same ids for the same people.
id: {id}
# The party whose labels are learnt.
label_owner: {owner}
# The id and one column a task; an empty cell is an unknown label.
labels: labels.csv
tasks:
  # 客户分层: integers 0, 1, 2, … from low to high, without gaps.
  tier: {{kind: ordinal}}
  # 需求倾向: 0 or 1.
  invest: {{kind: binary}}
# One table a party (CSV, CSV.gz or Parquet; UTF-8 or GB18030), rows in any order, each with its own customers.
# Columns not listed under `categorical` are numbers; empty cells are missing values.
parties:
{parties}
# Optional. groups, time and weight are columns of the label owner's table.
# groups: [city_class]
# time: opened_on
# weight: sample_weight
# units: {{age: years}}
"""


def example(parties: tuple[str, ...]) -> Federation:
    """An invented federation: CUSTOMERS customers of the first party, of whom each other party knows four in five."""
    _check(parties)
    rng = np.random.default_rng(20)
    ids = np.array([f"EXAMPLE-{i:04d}" for i in range(1, CUSTOMERS + 1)])
    wealth = rng.normal(size=CUSTOMERS)
    tables: dict[str, Table] = {}
    for party in parties:
        table = _table(ids, _KNOWN.get(party, _OTHER), wealth, rng)
        tables[party] = table.take(rng.permutation(CUSTOMERS)[: CUSTOMERS * 4 // 5 if tables else CUSTOMERS])
    order = [int(i[-4:]) - 1 for i in tables[parties[0]].ids.tolist()]
    seen = (wealth + 0.5 * rng.normal(size=CUSTOMERS))[order]
    values = {"tier": np.digitize(seen, [-0.4, 0.6]).astype(np.int64), "invest": (seen > 0.5).astype(np.int64)}
    return make_federation("example", "customer_id", parties[0], _TASKS, tables, Labels(tables[parties[0]].ids, values))


def example_yaml(federation: Federation) -> str:
    """A commented federation.yaml for tables written as CSV."""
    lines = []
    for party, table in federation.tables.items():
        categorical = ", ".join(table.schema.categorical)
        lines += [f"  {party}:", f"    table: {party}.csv", f"    categorical: [{categorical}]"]
    return _YAML.format(id=federation.id_column, owner=federation.label_owner, parties="\n".join(lines))


def _check(parties: tuple[str, ...]) -> None:
    bad = [p for p in parties if not NAME.fullmatch(p) or p.lower() in _RESERVED]
    if bad:
        raise UsageError(
            f"{bad[0]!r} is no name for a party", "Use a letter, then up to 31 letters, digits, - and _ (ASCII)."
        )
    if not 2 <= len(parties) <= MAX_PARTIES or len(set(parties)) != len(parties):
        raise UsageError(f"{len(set(parties))} different parties", f"Name 2 to {MAX_PARTIES} different parties.")


def _table(
    ids: npt.NDArray[np.str_], names: tuple[str, ...], wealth: npt.NDArray[np.float64], rng: np.random.Generator
) -> Table:
    n = len(ids)
    amount = np.round(np.exp(8 + wealth * 0.8 + rng.normal(size=n)))
    number = np.clip(np.round(50 + 8 * wealth + 12 * rng.normal(size=n)), 18, 90)
    count = rng.poisson(np.exp(0.3 * wealth + 1)).astype(np.float64)
    count[rng.random(n) < 0.1] = np.nan
    level = np.clip(np.round(wealth + rng.normal(size=n)), -1, 1).astype(int) + 1
    kinds = np.array(["A", "B", "C"], dtype=object)[level]
    return Table(ids, dict(zip(names, (amount, number, count, kinds), strict=True)), frozenset(names[-1:]))
