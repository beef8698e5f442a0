"""Running averages of statistics of the batches, which lie among the parameters but are not learnt.

In training, backward writes `rows * s` to the place of such a parameter's gradient, where s is the statistic over the
rows of the shard. The canonical sum over shards, divided by the rows of the whole batch like any gradient, is then the
average of s over the batch, so it needs no message of its own.
"""

from core.arrays import Array, Namespace
from core.plan.layout import ParameterLayout


def update_statistics(
    xp: Namespace, layout: ParameterLayout, parameters: Array, gradients: Array, start: int = 0
) -> None:
    """Move each running average towards the batch's, `r = r + momentum (s - r)`, and set its gradient to zero.

    `parameters` and `gradients`, already divided by the size of the batch, are whole flat vectors or slices of them
    that begin at element `start`; the limits of a slice do not change any bit. Call it once per step, before norms,
    clipping and the optimizer, for which running averages are then parameters with a gradient of zero.
    """
    for name, declaration in layout.declarations.items():
        if declaration.momentum is None:
            continue
        place = layout.slice(name)
        part = slice(max(place.start - start, 0), max(min(place.stop - start, parameters.size), 0))
        running, batch = parameters[part], gradients[part]
        xp.subtract(batch, running, out=batch)
        xp.multiply(batch, declaration.momentum, out=batch)
        xp.add(running, batch, out=running)
        batch.fill(0)
