"""The look of the plots: fonts, colours safe for colour-blind readers (Okabe and Ito 2008), titles, saving."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from fedprofile.report import words

INK, MUTED, GRID = "#1b1f24", "#5b636d", "#e3e6ea"
COLOURS = {
    "bank_alone": "#4d4d4d",
    "members_alone": "#d55e00",
    "federated": "#0072b2",
    "pooled_network": "#009e73",
    "pooled_gbdt": "#cc79a7",
}
MARKERS = {"bank_alone": "s", "members_alone": "D", "federated": "o", "pooled_network": "^", "pooled_gbdt": "v"}
TASK_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#4d4d4d")
AT_POINT: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False}
_CJK_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "SimHei")
_DPI = 200


def style() -> Any:
    """matplotlib settings for ``rc_context``; names are drawn as they are, a dollar sign starts no formula."""
    return {
        "font.family": ["DejaVu Sans", *_cjk()],
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "legend.fontsize": 8,
        "savefig.facecolor": "white",
    }


def _cjk() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [font for font in _CJK_FONTS if font in installed]


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """(figure, axes) of the given inches, drawn by Agg, without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=engine)
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def titled(figure: Any, text: str) -> Any:
    """The figure with its finding above it, at the left edge, wrapped to its width."""
    chars = int(figure.get_figwidth() * 11.5)
    figure.suptitle("\n".join(textwrap.wrap(text, chars)), x=0.01, ha="left", size=10.5, weight="bold")
    return figure


def whisker(
    ax: Any, y: int, value: float, interval: Any, colour: str, marker: str, label: str, strong: bool = False
) -> None:
    """A value on row ``y`` with its interval (low, high) and its label at the right."""
    ax.plot(interval, [y, y], color=colour, lw=3 if strong else 1.8, solid_capstyle="round", alpha=0.8)
    ax.plot(value, y, marker, color=colour, ms=9 if strong else 7, mec="white", mew=1)
    weight = "bold" if strong else "normal"
    ax.annotate(label, (max(interval), y), xytext=(8, 0), va="center", weight=weight, **AT_POINT)


def named_rows(ax: Any, names: list[str]) -> None:
    """One named row a whisker, the first on top, with room for the values at the right."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)


def save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    return path


def blues() -> Any:
    """White to the federated model's blue: light to dark in grey as well."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("blues", ["#f4f7fa", COLOURS["federated"], "#003a5c"])


def plain(name: str, otherwise: str) -> str:
    """The name, at most 32 letters of it, without what no installed font can draw; ``otherwise`` if nothing is left."""
    text = words.clean(name)
    if not _cjk():
        text = "".join(c for c in text if ord(c) < 0x2E80).strip()
    return (text if len(text) <= 32 else f"{text[:31]}…") or otherwise
