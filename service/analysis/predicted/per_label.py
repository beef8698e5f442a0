"""Precision, recall and F1 of each label, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.labels.counts import confusion, per_label
from service.analysis.style import BLUE, GREEN, ORANGE, panels, plain, shortened, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from service.analysis.predictions import Predictions

MOST_LABELS = 30
LONGEST_NAME, CHARACTER = 14, 0.1  # characters of a label's name, and inches per character
COLORS = {"precision": BLUE, "recall": ORANGE, "f1": GREEN}


def draw_per_label(name: str, found: Predictions) -> Figure:
    """Draw the figures of the labels; of those with the lowest F1, if there are too many."""
    figures = per_label(confusion(found.scores, found.truth))
    labels = len(found.names)
    shown = np.sort(np.argsort(figures["f1"], kind="stable")[:MOST_LABELS])
    among = f"the {len(shown)} of {labels} labels with the lowest F1" if len(shown) < labels else f"{labels} labels"
    names = [f"{shortened(found.names[k], LONGEST_NAME)} ({figures['support'][k]:,})" for k in shown]
    longest = max(map(len, names))
    width = float(np.clip(0.7 * len(shown), 5.5, 12))
    title = f"{name}: {among} ({found.in_words})"
    figure, (axes,) = panels(title, [width], 2.8, names=(0, longest * CHARACTER))
    style_axes(axes, "precision, recall and F1 by label (rows that have it)", "", "share")
    places = np.arange(len(shown))
    for index, (figure_name, color) in enumerate(COLORS.items()):
        values = figures[figure_name][shown]
        label = "F1" if figure_name == "f1" else figure_name
        axes.bar(places + 0.27 * (index - 1), values, 0.27, color=color, label=label)
    axes.set_xticks(places, list(map(plain, names)), rotation=90, fontsize=9)
    axes.set(xlim=(-0.6, len(shown) - 0.4), ylim=(0, 1.25), yticks=np.linspace(0, 1, 6))
    axes.legend(frameon=False, fontsize=9, loc="upper left", ncols=3)
    return figure
