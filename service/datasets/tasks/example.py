"""The task that writes a dataset of scikit-learn to a Parquet file."""

from __future__ import annotations

from service.datasets.examples import EXAMPLES, LABEL, TARGET, ExampleName
from service.datasets.tasks.serving import serve


def run(name: ExampleName, file: str) -> None:
    """Write the example to `file`: a column for each feature, or one of images, and the class or target."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    from sklearn import datasets  # noqa: PLC0415

    example = EXAMPLES[name]
    found = getattr(datasets, f"load_{name}")()
    if example.shape is not None:
        pixels = pa.array(found.data.reshape(-1), pa.uint8(), safe=True)
        columns = {"pixels": pa.FixedSizeListArray.from_arrays(pixels, example.features)}
    else:
        columns = {str(column): found.data[:, index] for index, column in enumerate(found.feature_names)}
    classes = np.array(example.classes)
    columns |= {LABEL: classes[found.target]} if example.classes else {TARGET: found.target}
    pq.write_table(pa.table(columns), file)


if __name__ == "__main__":
    serve(run)
