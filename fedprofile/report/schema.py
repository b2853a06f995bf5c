"""The one description of ``report.json``, schema version 1: every key, its type and its meaning.

``KEYS`` below is the documentation and, read by ``validate``, the check. A line is *path, type, meaning*.
``<name>`` stands for any key, ``[]`` for each item of a list; ``key?`` may be left out; ``|null`` may be null.
Types: ``object`` (exactly the keys listed), ``map`` (free keys), ``list``, ``text``, ``hex``, ``integer``,
``count`` (integer >= 0), ``number`` (finite), ``share`` (0 to 1). Keys that are not listed are refused.
Differences are federated minus the other model; intervals are 95 % bootstrap over test customers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedprofile.report.shape import fail, tree, walk

SCHEMA_VERSION = 1

KEYS = """
schema_version                              integer      1
run                                         object       which training this was
run.name                                    text         its name, as in MLflow
run.dir?                                    text         the run folder that holds this file
run.command?                                text         the command that reproduces it, overrides included
run.created                                 text         end of the run, ISO 8601 with offset
run.version                                 text         version of fedprofile
run.git_commit                              text|null    commit of the code, null outside a repository
run.config_sha256                           hex          hash of the resolved configuration
run.seed                                    integer      seed of initialisation and batches, never of secrets
run.fold                                    count        rotation of the split, data.fold
run.mlflow_run_id                           text|null    null where tracking is off
data                                        object       what it was trained on; sizes and names, no value
data.name                                   text         name of the federation
data.digest                                 hex          digest over every party's table
data.customers                              count        customers of the label owner
data.split                                  object       customers by part
data.split.train                            count        fits
data.split.valid                            count        chooses
data.split.test                             count        judges
data.parties                                list         one a node, label owner included
data.parties[]                              object       one node
data.parties[].id                           text         party id
data.parties[].role                         text         its role
data.parties[].rows                         count        rows of its table
data.parties[].columns                      count        features of its table
data.parties[].customers_known              count        the label owner's customers it knows
data.parties[].quality                      share|null   data-quality figure of its table; null: not measured
data.tasks                                  map          the tasks, the same names as in tasks
data.tasks.<task>                           object       one task
data.tasks.<task>.kind                      text         ordinal or binary
data.tasks.<task>.classes                   count        levels of a tier, 2 for a need
modes                                       object       the choices a reader must know, as configured
modes.federation                            text         inprocess or ray
modes.members                               count        members a partner role was split into
modes.overlap                               share|null   share of customers each role was thinned to, null: as it is
modes.align                                 text         how ids met
modes.consent                               text         where consents came from
modes.secrets                               text         simulated, or where node homes lie
modes.secure                                text         fps1 profile, or none
modes.verify                                text         recompute or none: who vouches for shared weights
modes.privacy                               text         none or dp
modes.learning                              text         name of the learning strategy
modes.rounds                                count        federated rounds
modes.steps                                 count        local steps a round
statements                                  list         plain sentences that this run must state
statements[]                                text         one sentence
warnings                                    list         what was odd but did not stop the run
warnings[]                                  text         one sentence
tasks                                       map          the result of each task
tasks.<task>                                object       one task
tasks.<task>.kind                           text         ordinal or binary
tasks.<task>.classes                        count        K
tasks.<task>.levels                         list|null    names of the K levels, lowest first
tasks.<task>.levels[]                       text         one name
tasks.<task>.test_customers                 count        test customers whose label is known
tasks.<task>.models                         object       the five models, null where not computed
tasks.<task>.models.bank_alone              object|null  the better of network and boosting on the bank's columns
tasks.<task>.models.members_alone           object|null  each member's own model, the same fusion
tasks.<task>.models.federated               object       the result
tasks.<task>.models.pooled_network          object|null  network on all columns in one place
tasks.<task>.models.pooled_gbdt             object|null  gradient boosting on all columns in one place
tasks.<task>.models.*.auc                   share|null   ROC-AUC, one-vs-rest mean for a tier; null if undefined
tasks.<task>.models.*.accuracy              share        share of most likely levels that are right
tasks.<task>.models.*.qwk                   number|null  quadratic weighted kappa; null for a need
tasks.<task>.models.*.log_loss              number       mean negative log-likelihood, nats
tasks.<task>.models.*.ece                   share        expected calibration error, 15 equal-mass bins
tasks.<task>.models.*.intervals             map          by metric; a metric may be left out
tasks.<task>.models.*.intervals.<metric>    list         [low, high]
tasks.<task>.models.*.intervals.<metric>[]  number       a bound
tasks.<task>.models.*.chosen?               text         network or gbdt, where the better was chosen on validation
tasks.<task>.reasons                        map          why each null model, or gain_by_partner, is null
tasks.<task>.reasons.<model>                text         one clause
tasks.<task>.gap_closed                     number|null  (federated - bank) / (best pooled - bank), on AUC
tasks.<task>.gap_closed_reason              text|null    why null: baselines skipped, or the gap is within noise
tasks.<task>.best_pooled                    text|null    pooled_network or pooled_gbdt, chosen on validation
tasks.<task>.federated_minus_bank           map|null     by metric; null where bank_alone is
tasks.<task>.federated_minus_bank.<metric>  object       a paired difference
tasks.<task>.federated_minus_members        map|null     by metric; null where members_alone is
tasks.<task>.federated_minus_members.<metric>  object    a paired difference
tasks.<task>.*.<metric>.difference          number       the difference
tasks.<task>.*.<metric>.low                 number       lower bound
tasks.<task>.*.<metric>.high                number       upper bound
tasks.<task>.confusion                      list         K rows (true level) of the federated model
tasks.<task>.confusion[]                    list         K counts (most likely level); all sum to test_customers
tasks.<task>.confusion[][]                  count        test customers
tasks.<task>.reliability                    map          by model; models may be left out
tasks.<task>.reliability.<model>            list         bins of equal mass: of the need, or of the most likely level
tasks.<task>.reliability.<model>[]          object       one bin
tasks.<task>.reliability.<model>[].predicted  share      mean predicted probability
tasks.<task>.reliability.<model>[].observed   share      share that came true
tasks.<task>.reliability.<model>[].count      count      test customers in the bin
tasks.<task>.gain_by_partner                map|null     AUC lost without that role's scores; simulation only
tasks.<task>.gain_by_partner.<role>         object       one role
tasks.<task>.gain_by_partner.<role>.auc_drop  number     the drop
tasks.<task>.gain_by_partner.<role>.low     number       lower bound
tasks.<task>.gain_by_partner.<role>.high    number       upper bound
learning_curve                              object       losses from the masked sums; empty lists if none
learning_curve.rounds                       list         round numbers
learning_curve.rounds[]                     count        one round
learning_curve.loss                         map          by task, as long as rounds
learning_curve.loss.<task>                  list         mean corrected loss over nodes, nats
learning_curve.loss.<task>[]                number       at that round
privacy                                     object       what was given away
privacy.label_eps                           map          by task, per customer; null: true labels, by explicit choice
privacy.label_eps.<task>                    number|null  epsilon of randomised response
privacy.label_eps_total                     number|null  their sum; null if any is null
privacy.customers_released                  count        training customers whose randomised labels were released
privacy.mechanism                           text         how labels were randomised
privacy.openings                            list         every kind of sum that was opened
privacy.openings[]                          object       sums of one kind, scope and opener
privacy.openings[].kind                     text         stats, update, role or score
privacy.openings[].scope                    text         a role; empty: all nodes
privacy.openings[].opener                   text         party id; empty: the coordinator
privacy.openings[].count                    count        how many were opened
privacy.openings[].members                  count        nodes in the sum
privacy.openings[].hidden                   count        contributions that hide one another from the opener
privacy.openings[].tolerated_colluders      integer      hidden - 2; below 0 only where a run was allowed to hide less
wire                                        object       every byte that crossed, both ways, by type
wire.up                                     map          nodes to coordinator
wire.up.<type>                              object       one message type
wire.up.<type>.messages                     count        messages
wire.up.<type>.bytes                        count        bytes
wire.down                                   map          coordinator to nodes
wire.down.<type>                            object       one message type
wire.down.<type>.messages                   count        messages
wire.down.<type>.bytes                      count        bytes
seconds                                     map          wall clock by stage; stages do not overlap, no total
seconds.<stage>                             number       seconds
"""

MODELS = ("bank_alone", "members_alone", "federated", "pooled_network", "pooled_gbdt")
DIFFERENCES = ("federated_minus_bank", "federated_minus_members")
METRICS = ("auc", "accuracy", "qwk", "log_loss", "ece")


def validate(report: Any) -> None:
    """Check a report against ``KEYS`` and what its parts must agree on.

    Raises:
        ValueError: the first fault, with the path of the key; never with a value.
    """
    walk(report, _TREE)
    if report["schema_version"] != SCHEMA_VERSION:
        fail("schema_version", f"this version of fedprofile reads {SCHEMA_VERSION}")
    _same(report["data"]["tasks"], report["tasks"], "tasks")
    _same(report["privacy"]["label_eps"], report["tasks"], "privacy.label_eps")
    if "total" in report["seconds"]:
        fail("seconds.total", "holds stages only, their sum is the total")
    _check_curve(report)
    for name, task in report["tasks"].items():
        if any(task[k] != report["data"]["tasks"][name][k] for k in ("kind", "classes")):
            fail(f"data.tasks.{name}", f"differs from tasks.{name}")
        _check_task(task, f"tasks.{name}")


def _check_curve(report: Mapping[str, Any]) -> None:
    curve = report["learning_curve"]
    for name, losses in curve["loss"].items():
        if name not in report["tasks"]:
            fail(f"learning_curve.loss.{name}", "is no task")
        if len(losses) != len(curve["rounds"]):
            fail(f"learning_curve.loss.{name}", "is not as long as learning_curve.rounds")


def _check_task(task: Mapping[str, Any], at: str) -> None:
    if task["kind"] not in ("ordinal", "binary"):
        fail(f"{at}.kind", "is neither ordinal nor binary")
    k = task["classes"]
    if k < 2 or (task["kind"] == "binary" and k != 2):
        fail(f"{at}.classes", "must be 2 for a need, at least 2 for a tier")
    if task["levels"] is not None and len(task["levels"]) != k:
        fail(f"{at}.levels", "does not name every class")
    if len(task["confusion"]) != k or any(len(row) != k for row in task["confusion"]):
        fail(f"{at}.confusion", "is not classes x classes")
    if sum(map(sum, task["confusion"])) != task["test_customers"]:
        fail(f"{at}.confusion", "does not add up to test_customers")
    _check_nulls(task, at)
    _check_intervals(task, at)


def _check_nulls(task: Mapping[str, Any], at: str) -> None:
    models = task["models"]
    for key in [m for m in MODELS if models[m] is None] + ["gain_by_partner"] * (task["gain_by_partner"] is None):
        if key not in task["reasons"]:
            fail(f"{at}.reasons.{key}", f"is missing: say why {key} is null")
    if (task["gap_closed"] is None) != (task["gap_closed_reason"] is not None):
        fail(f"{at}.gap_closed_reason", "must say why gap_closed is null, and only then")
    pooled = [m for m in ("pooled_network", "pooled_gbdt") if models[m] is not None]
    if task["best_pooled"] not in pooled and (pooled or task["best_pooled"] is not None):
        fail(f"{at}.best_pooled", "must name a pooled model that was computed, null if none was")
    for key, other in zip(DIFFERENCES, ("bank_alone", "members_alone"), strict=True):
        if (task[key] is None) != (models[other] is None):
            fail(f"{at}.{key}", f"must be null exactly where models.{other} is")


def _check_intervals(task: Mapping[str, Any], at: str) -> None:
    bounds = [(f"{at}.gain_by_partner.{r}", g["low"], g["high"]) for r, g in (task["gain_by_partner"] or {}).items()]
    for name, model in task["models"].items():
        for metric, pair in (model or {"intervals": {}})["intervals"].items():
            path = f"{at}.models.{name}.intervals.{metric}"
            if metric not in METRICS or len(pair) != 2:
                fail(path, "is not a metric with [low, high]")
            bounds.append((path, *pair))
    for key in DIFFERENCES:
        for metric, d in (task[key] or {}).items():
            if metric not in METRICS:
                fail(f"{at}.{key}.{metric}", "is not a metric")
            bounds.append((f"{at}.{key}.{metric}", d["low"], d["high"]))
    for path, low, high in bounds:
        if low > high:
            fail(path, "has its low bound above its high bound")
    for name in task["reliability"]:
        if name not in MODELS:
            fail(f"{at}.reliability.{name}", "is no model")


def _same(a: Mapping[str, Any], b: Mapping[str, Any], at: str) -> None:
    if set(a) != set(b):
        fail(at, "does not have exactly the tasks of tasks and data.tasks")


_TREE = tree(KEYS, {".models.*.": MODELS, ".*.<metric>.": DIFFERENCES})
