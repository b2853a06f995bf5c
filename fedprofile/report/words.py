"""The words and numbers that table, plots and page share, so that all three say the same thing the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_NAMES = {
    "bank_alone": "bank alone",
    "members_alone": "partners, not federated",
    "federated": "federated",
    "pooled_network": "pooled network",
    "pooled_gbdt": "pooled gradient boosting",
}
METRIC_NAMES = {"auc": "ROC-AUC", "accuracy": "accuracy", "qwk": "kappa", "log_loss": "log-loss", "ece": "ECE"}
CHOSEN_NAMES = {"network": "network", "gbdt": "boosting"}
KIND_NAMES = {
    "stats": "counts that fix shared bins",
    "update": "update of the shared trunk and heads",
    "role": "update of a role's encoder",
    "score": "customers' scores",
}

MEASURES = (
    (
        "ROC-AUC",
        "chance that a customer with the need, or of the level, is ranked above one without; a tier: mean over levels",
    ),
    ("kappa", "agreement with the true level beyond chance, far misses weighing more (quadratic); tiers only"),
    ("log-loss", "mean surprise at the truth, in nats; less is better"),
    ("ECE", "mean distance of predicted probability from what came true, 15 bins of equal mass; less is better"),
    ("intervals", "95 % bootstrap over test customers, paired for differences; better and worse: it leaves 0 out"),
    ("gap closed", "(federated − bank alone) / (best pooled − bank alone), where that gap stands out of the noise"),
)


def clean(text: str) -> str:
    """The text on one line without control characters, so that no name can steer a terminal or turn its direction."""
    return "".join(c if c.isprintable() or c == "\u00a0" else " " if c.isspace() else "\ufffd" for c in text)


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def quality(figure: float | None) -> str:
    """A data-quality figure as ``node check`` shows it."""
    return "not measured" if figure is None else f"{figure:.3f}"


def signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def bracket(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]".replace("-", "−")


def percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%".replace("-", "−")


def count(value: int) -> str:
    return f"{value:,}"


def size(n_bytes: int) -> str:
    """Bytes in decimal units."""
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def model_name(key: str, model: Mapping[str, Any] | None) -> str:
    """As in a row of the table: bank alone says which of its two models was chosen."""
    chosen = (model or {}).get("chosen")
    return f"{MODEL_NAMES[key]} ({CHOSEN_NAMES.get(chosen, clean(chosen))})" if chosen else MODEL_NAMES[key]


def level_names(task: Mapping[str, Any]) -> list[str]:
    """The levels' names, lowest first; without names no/yes for a need and level 0, 1, ... for a tier."""
    if task["levels"] is not None:
        return [clean(level) for level in task["levels"]]
    return ["no", "yes"] if task["kind"] == "binary" else [f"level {i}" for i in range(task["classes"])]


def subject(task: Mapping[str, Any]) -> str:
    """What the task is and on how many customers it is judged."""
    kind = f"tier of {task['classes']} levels" if task["kind"] == "ordinal" else "need"
    return f"{kind}, {count(task['test_customers'])} test customers"


def with_interval(model: Mapping[str, Any], metric: str) -> str:
    """0.957 [0.951, 0.963], the interval where there is one."""
    pair = model["intervals"].get(metric)
    return number(model[metric]) + (f" {bracket(*pair)}" if pair and model[metric] is not None else "")


def difference(d: Mapping[str, float]) -> str:
    return f"{signed(d['difference'])} [{signed(d['low'])}, {signed(d['high'])}]"


def stands_out(d: Mapping[str, float]) -> bool:
    """Whether the interval leaves 0 out."""
    return d["low"] > 0 or d["high"] < 0


def judgement(metric: str, d: Mapping[str, float]) -> str:
    """Better, worse, or within noise, minding that less is better for log-loss and ECE."""
    if not stands_out(d):
        return "within noise"
    return "better" if (d["difference"] > 0) == (metric not in ("log_loss", "ece")) else "worse"


def gap(task: Mapping[str, Any]) -> str:
    """How much of what pooling all data would add the federation reaches, or why that cannot be said."""
    if task["gap_closed"] is None:
        return f"not given: {clean(task['gap_closed_reason'])}"
    return f"{number(task['gap_closed'], 2)} of the AUC gap from bank alone to {MODEL_NAMES[task['best_pooled']]}"


def missing(task: Mapping[str, Any]) -> dict[str, list[str]]:
    """Reason -> names of what is null for it."""
    by_reason: dict[str, list[str]] = {}
    for key in [m for m in MODEL_NAMES if task["models"][m] is None]:
        by_reason.setdefault(clean(task["reasons"][key]), []).append(MODEL_NAMES[key])
    if task["gain_by_partner"] is None:
        by_reason.setdefault(clean(task["reasons"]["gain_by_partner"]), []).append("gain by partner")
    return by_reason


def epsilon(value: float | None) -> str:
    return "none: true labels were released, by explicit choice" if value is None else f"{value:g}"


def traffic(wire: Mapping[str, Mapping[str, Mapping[str, int]]], way: str) -> tuple[int, int]:
    """(messages, bytes) that crossed one way, ``up`` or ``down``."""
    rows = wire[way].values()
    return sum(r["messages"] for r in rows), sum(r["bytes"] for r in rows)


def headline(report: Mapping[str, Any]) -> str:
    """What this run is, in one sentence."""
    parties = report["data"]["parties"]
    roles = list(dict.fromkeys(clean(p["role"]) for p in parties))
    tasks = ", ".join(clean(t) for t in report["tasks"])
    left = "unmasked updates (secure=none)" if report["modes"]["secure"] == "none" else "only masked updates and scores"
    return (
        f"{len(parties)} nodes in {len(roles)} roles ({', '.join(roles)}) trained one profile model for {tasks} on "
        f"{count(report['data']['customers'])} customers; each table stayed with its owner, and {left} were summed."
    )


def finding(name: str, task: Mapping[str, Any]) -> str:
    """The comparison of models in one line."""
    if task["federated_minus_bank"] is None or "auc" not in task["federated_minus_bank"]:
        return f"{clean(name)}: federated AUC {number(task['models']['federated']['auc'])}"
    d = task["federated_minus_bank"]["auc"]
    where = {"better": "above the bank alone", "worse": "below the bank alone"}
    told = where.get(judgement("auc", d), "against the bank alone, within noise")
    text = f"{clean(name)}: federated is {signed(d['difference'])} AUC {told}"
    if task["gap_closed"] is None:
        return text
    return f"{text} and closes {percent(task['gap_closed'])} of the gap to pooled data"


def opening_name(opening: Mapping[str, Any]) -> str:
    """Kind of the sum and, where it is not over all nodes, its scope."""
    return f"{opening['kind']} {clean(opening['scope'])}".strip()
