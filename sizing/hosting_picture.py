"""Draw the hosting decision tree, with the path of a decision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sizing.hosting import RULES, Decision, Rule

_TAKEN, _OTHER, _FILL = "tab:green", "lightgray", "honeydew"
_STEP = 1.15
_QUESTION_AT, _LEAF_AT = 0.0, 5.2


def draw(decision: Decision, path: Path, rules: Sequence[Rule] = RULES) -> None:
    """Write the tree as PNG or SVG, by the file's suffix: questions top down, hosting options on the right."""
    figure = Figure(figsize=(12, 0.95 * len(rules) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-3.2, 7.2)
    axes.set_ylim(-_STEP * len(rules) - 0.5, 0.8)
    for number, rule in enumerate(rules):
        height = -_STEP * number
        asked = decision.asked[number] if number < len(decision.asked) else None
        text = f"{number + 1}. {rule.question}" + (f"\n{asked.facts}" if asked else "")
        _box(axes, _QUESTION_AT, height, text, taken=asked is not None)
        last = number == len(rules) - 1
        for name, hosting, answer in (("yes", rule.yes, True), ("no", rule.no, False)):
            taken = asked is not None and asked.answer is answer
            if hosting is None:
                _arrow(axes, (_QUESTION_AT, height - 0.33), (_QUESTION_AT, height - _STEP + 0.33), name, taken=taken)
            elif last and name == "no":
                below = height - _STEP
                _arrow(axes, (_QUESTION_AT, height - 0.33), (_QUESTION_AT, below + 0.3), name, taken=taken)
                _box(axes, _QUESTION_AT, below, hosting, taken=taken, leaf=True)
            else:
                _arrow(axes, (2.75, height), (_LEAF_AT - 0.85, height), name, taken=taken)
                _box(axes, _LEAF_AT, height, hosting, taken=taken, leaf=True)
    axes.set_title(f"Hosting: {decision.hosting}")
    figure.savefig(path, dpi=110)


def _box(axes: Any, x: float, y: float, text: str, *, taken: bool, leaf: bool = False) -> None:
    axes.text(
        x, y, text, ha="center", va="center", fontsize=10, fontweight="bold" if taken and leaf else "normal",
        color="black" if taken else "dimgray",
        bbox={
            "boxstyle": "round,pad=0.45" if leaf else "square,pad=0.4",
            "facecolor": _FILL if taken else "white",
            "edgecolor": _TAKEN if taken else _OTHER,
            "linewidth": 2 if taken else 1,
        },
    )  # fmt: skip


def _arrow(axes: Any, begin: tuple[float, float], end: tuple[float, float], name: str, *, taken: bool) -> None:
    style = {"arrowstyle": "-|>", "color": _TAKEN if taken else _OTHER, "linewidth": 2.5 if taken else 1}
    axes.annotate("", xy=end, xytext=begin, arrowprops=style)
    middle = (begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2
    axes.text(*middle, name, fontsize=9, color="black" if taken else "gray", ha="center", va="bottom",
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
