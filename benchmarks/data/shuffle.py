"""Compare shuffles in chunks with a full one on rows sorted by class: `python -m benchmarks.data.shuffle`.

For each shuffle: the deviation of the classes' shares of a batch, relative to independent draws; the correlation of a
row's place in the file with its place in the epoch; and the number of rows in a window.
"""

import numpy as np

from workers.data.splitting import Chunks, batches_of, epoch_order

ROWS, CLASSES, BATCH, SEEDS = 1_000_000, 10, 128, 5
# Rows of a chunk, and chunks of a window.
CHUNKS = ((64, 1024), (128, 512), (256, 256), (1024, 64), (4096, 16), (256, 16))


def variation(order: np.ndarray) -> float:
    """Return the deviation of the classes' shares of a batch; 1 if each row is drawn independently."""
    labels = order * CLASSES // ROWS
    shares = [np.bincount(labels[rows], minlength=CLASSES) / BATCH for rows in batches_of(np.arange(ROWS), BATCH)[:-1]]
    by_chance = np.sqrt((1 / CLASSES) * (1 - 1 / CLASSES) / BATCH)
    return float(np.sqrt(np.mean(np.square(np.array(shares) - 1 / CLASSES))) / by_chance)


def main() -> None:
    print("| shuffle | rows in a window | variation of a batch's classes | largest correlation with the file |")
    print("|---|--:|--:|--:|")
    rows = np.arange(ROWS)
    for chunks in (None, *(Chunks(*sizes) for sizes in CHUNKS)):
        orders = [epoch_order(rows, seed, 0, chunks) for seed in range(SEEDS)]
        varies = np.mean([variation(order) for order in orders])
        correlation = max(abs(np.corrcoef(rows, order)[0, 1]) for order in orders)
        name = f"chunks of {chunks.rows}, windows of {chunks.window}" if chunks else "full"
        window = f"{chunks.rows * chunks.window:,}" if chunks else f"{ROWS:,}"
        print(f"| {name} | {window} | {varies:.2f} | {correlation:.3f} |", flush=True)


if __name__ == "__main__":
    main()
