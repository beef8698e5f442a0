"""Running averages of what batches are like, kept among the parameters but not learnt.

In training, backward writes `rows * s` where such a statistic's gradient would lie, s being what it is over the shard's
rows. The canonical sum over shards, divided by the rows of the whole batch like any gradient, is then the average of s
over the batch, and travels without a message of its own.
"""

from core.arrays import Array, Namespace
from core.plan.layout import ParameterLayout


def update_statistics(
    xp: Namespace, layout: ParameterLayout, parameters: Array, gradients: Array, start: int = 0
) -> None:
    """Move each statistic towards the batch's, `r = r + momentum (s - r)`, and write zero where s was.

    `parameters` and `gradients`, already divided by the size of the batch, are whole flat vectors or slices of them
    that begin at element `start`; where a slice begins and ends does not change a bit. Call it once per step, before
    norms, clipping and the optimizer, for which statistics are then parameters whose gradient is zero.
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
