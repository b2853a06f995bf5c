"""One function a plot: from a part of the report to a matplotlib figure whose title says the finding, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedprofile.report import words
from fedprofile.report.canvas import (
    AT_POINT,
    COLOURS,
    INK,
    MARKERS,
    MUTED,
    TASK_COLOURS,
    blues,
    canvas,
    named_rows,
    plain,
    titled,
    whisker,
)


def learning_curve(curve: Mapping[str, Any]) -> Any:
    """Loss of each task by round, as the masked sums told it, relative to the first round: tasks differ in scale."""
    rounds = curve["rounds"]
    fig, ax = canvas(5.4, 3.6)
    falls, ends = [], []
    for i, (name, loss) in enumerate(curve["loss"].items()):
        colour, shown = TASK_COLOURS[i % len(TASK_COLOURS)], plain(name, f"task {i + 1}")
        relative = [100 * value / (loss[0] or 1.0) for value in loss]
        ax.plot(rounds, relative, color=colour, lw=1.8, marker="o", ms=4, mec="white", mew=0.5)
        ends.append((relative[-1], shown, colour))
        falls.append(f"{shown} {words.number(loss[0], 2)} → {words.number(loss[-1], 2)}")
    _label_ends(ax, rounds[-1], ends)
    ax.set_xlabel("round")
    ax.set_ylabel("mean corrected loss [% of first round]")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.03)
    return titled(fig, f"Training loss in nats over {len(rounds)} rounds: {', '.join(falls)}")


def _label_ends(ax: Any, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Names at the ends of their lines, pushed apart where two would overlap."""
    low, high = ax.get_ylim()
    step, at = 0.07 * (high - low), float("-inf")
    for y, name, colour in sorted(ends):
        at = max(y, at + step)
        ax.annotate(name, (x, at), xytext=(8, 0), color=colour, va="center", **AT_POINT)


def models(name: str, task: Mapping[str, Any]) -> Any:
    """AUC of every model with its interval."""
    computed = {k: task["models"][k] for k in words.MODEL_NAMES if task["models"][k] is not None}
    shown = {k: m for k, m in computed.items() if m["auc"] is not None}
    if not shown:
        return None
    fig, ax = canvas(5.4, 1.4 + 0.42 * len(shown))
    for y, (key, model) in enumerate(shown.items()):
        interval = model["intervals"].get("auc", [model["auc"]] * 2)
        whisker(
            ax, y, model["auc"], interval, COLOURS[key], MARKERS[key], words.number(model["auc"]), key == "federated"
        )
    if "bank_alone" in shown:
        ax.axvline(shown["bank_alone"]["auc"], color=MUTED, lw=0.8, ls=(0, (4, 3)), zorder=0)
    named_rows(ax, [words.model_name(k, m) for k, m in shown.items()])
    mean = ", mean over levels" if task["kind"] == "ordinal" else ""
    ax.set_xlabel(f"ROC-AUC{mean} [95 % bootstrap]")
    return titled(fig, words.finding(plain(name, "task"), task))


def gain(name: str, task: Mapping[str, Any]) -> Any:
    """AUC lost without each partner role's scores, with its interval."""
    if not task["gain_by_partner"]:
        return None
    gains = sorted(task["gain_by_partner"].items(), key=lambda item: -item[1]["auc_drop"])
    fig, ax = canvas(5.4, max(3.5, 1.4 + 0.42 * len(gains)))
    for y, (_, g) in enumerate(gains):
        colour, marker = (COLOURS["federated"], "o") if g["low"] > 0 else (MUTED, "s")
        whisker(ax, y, g["auc_drop"], (g["low"], g["high"]), colour, marker, words.signed(g["auc_drop"]))
    ax.axvline(0, color=INK, lw=0.8, zorder=0)
    named_rows(ax, [plain(role, f"role {i + 1}") for i, (role, _) in enumerate(gains)])
    ax.set_xlabel("ROC-AUC lost without the role's scores [95 % bootstrap]")
    clear = [plain(role, "a role") for role, g in gains if g["low"] > 0]
    whose = f"the gain of {' and '.join(clear)} stands" if clear else "no role's own gain stands"
    return titled(fig, f"{plain(name, 'task')}: {whose} out of the noise")


def confusion(name: str, task: Mapping[str, Any]) -> Any:
    """Most likely against true level of the federated model: share of each true level, and counts."""
    cells, k = task["confusion"], task["classes"]
    total = sum(map(sum, cells))
    if not total:
        return None
    shares = [[c / (sum(row) or 1) for c in row] for row in cells]
    fig, ax = canvas(max(5.4, 1.9 + 0.95 * k), max(5.0, 1.5 + 0.8 * k))
    ax.imshow(shares, cmap=blues(), vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(cells):
        for j, c in enumerate(row):
            look = {"ha": "center", "color": "white" if shares[i][j] > 0.42 else INK}
            ax.text(j, i, words.percent(shares[i][j]), va="bottom", weight="bold", **look)
            ax.text(j, i, f"\n{words.count(c)}", va="center", size=8, linespacing=2.2, **look)
    names = [plain(level, f"level {i}") for i, level in enumerate(words.level_names(task))]
    ax.set_xticks(range(k), names)
    ax.set_yticks(range(k), names)
    ax.grid(visible=False)
    ax.set_xlabel("most likely level, federated [% of true level; count]")
    ax.set_ylabel("true level")
    right = sum(cells[i][i] for i in range(k)) / total
    near = sum(c for i, row in enumerate(cells) for j, c in enumerate(row) if abs(i - j) <= 1) / total
    told = f"{words.percent(right)} of test customers in their right level"
    if k > 2:
        told += f", {words.percent(near)} within one level"
    elif sum(cells[1]):
        told += f"; {words.percent(cells[1][1] / sum(cells[1]))} of those with the need found"
    return titled(fig, f"{plain(name, 'task')}: {told}")


def reliability(name: str, task: Mapping[str, Any]) -> Any:
    """Predicted against observed share, in bins of equal mass; bars: 95 % Wilson intervals of the federated model."""
    bins = {k: task["reliability"][k] for k in words.MODEL_NAMES if task["reliability"].get(k)}
    if not bins:
        return None
    fig, ax = canvas(5.4, 5.0)
    ax.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (4, 3)), zorder=0)
    for key, rows in sorted(bins.items(), key=lambda item: item[0] == "federated"):
        strong = key == "federated"
        x, y = [b["predicted"] for b in rows], [b["observed"] for b in rows]
        look: dict[str, Any] = {"lw": 1.6, "ms": 6.5} if strong else {"lw": 0.9, "ms": 4.5, "alpha": 0.7}
        look |= {"color": COLOURS[key], "marker": MARKERS[key], "label": words.MODEL_NAMES[key]}
        ax.plot(x, y, mec="white", mew=0.6, **look)
        if strong:
            low, high = zip(*map(_wilson, rows), strict=True)
            ax.vlines(x, low, high, color=COLOURS[key], lw=1.4, alpha=0.35)
    values = [v for rows in bins.values() for b in rows for v in (b["predicted"], b["observed"])]
    values += [end for b in bins.get("federated", ()) for end in _wilson(b)]
    pad = 0.06 * (max(values) - min(values)) + 0.01
    limits = (max(0, min(values) - pad), min(1, max(values) + pad))
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    of = "the most likely level" if task["kind"] == "ordinal" else "the need"
    ax.set_xlabel(f"predicted probability of {of}, mean of a bin")
    ax.set_ylabel("share of the bin's customers for whom it is true")
    ax.legend(loc="upper left", frameon=False)
    ece = 100 * task["models"]["federated"]["ece"]
    told = f"federated probabilities are off by {ece:.1f} percentage points on average (bars: 95 %)"
    return titled(fig, f"{plain(name, 'task')}: {told}")


def _wilson(row: Mapping[str, Any]) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    n, p, z2 = max(row["count"], 1), row["observed"], 1.96**2
    middle, half = p + z2 / (2 * n), (z2 * (p * (1 - p) / n + z2 / (4 * n * n))) ** 0.5
    return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
