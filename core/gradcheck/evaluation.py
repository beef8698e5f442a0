"""The form of a node in evaluation against its form in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.gradcheck.report import TOLERANCE
from core.plan.plan import Plan
from core.plan.program import Program

if TYPE_CHECKING:
    from core.gradcheck.setting import Setting
    from core.graph.node import Node


def evaluation_problems(node: Node, setting: Setting) -> list[str]:
    """Return what is wrong with the running averages of a node by itself.

    With the statistics of a batch as its running averages, evaluation on that batch must give what training does.
    """
    statistics = [name for name, each in setting.layout.declarations.items() if each.statistic]
    if node.evaluation() is node or not statistics:
        return []
    training = setting.plan(())
    training.forward(setting.key)
    training.backward({setting.output: 1.0})
    program = Program.compile(setting.graph, (setting.output,), batch=setting.batch, dtype=np.float64, backward=False)
    parameters = setting.parameters.copy()
    own, found = setting.layout.views(parameters), setting.layout.views(training.gradients)
    rows = len(training.value(setting.output))
    for name in statistics:
        own[name][...] = found[name] / rows
    plan = Plan(program, layout=setting.layout, parameters=parameters)
    setting.feed(plan, setting.inputs)
    plan.forward()
    value, expected = plan.value(setting.output), training.value(setting.output)
    if np.abs(value - expected).max(initial=0) <= TOLERANCE * np.abs(expected).max(initial=0):
        return []
    return ["evaluation with the statistics of a batch differs from training on it"]
