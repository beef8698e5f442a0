"""The datasets that scikit-learn brings, which can be registered by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.datasets.preparation.preparation import Selection

ExampleName = Literal["digits", "iris", "wine", "breast_cancer", "diabetes"]

LABEL, TARGET = "label", "progression"
SOURCE = "scikit-learn://"


@dataclass(frozen=True)
class Example:
    """What a dataset has: rows of features with the name of a class or, without classes, one number to predict.

    `shape` is (height, width) of rows that are images.
    """

    description: str
    rows: int
    features: int
    classes: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None

    @property
    def selection(self) -> Selection:
        """How its file is registered."""
        if not self.classes:
            return Selection(label=None, targets=[TARGET])
        return Selection(label=LABEL, classes=self.classes, shape=self.shape)


EXAMPLES: dict[ExampleName, Example] = {
    "digits": Example("Handwritten digits, as grey images of 8 x 8", 1797, 64, tuple("0123456789"), (8, 8)),
    "iris": Example("Species of irises, from sizes of their flowers", 150, 4, ("setosa", "versicolor", "virginica")),
    "wine": Example("Growers of wines, from chemical analyses", 178, 13, ("class_0", "class_1", "class_2")),
    "breast_cancer": Example("Tumours, from images of their cells", 569, 30, ("malignant", "benign")),
    "diabetes": Example(
        "Progression of a disease after a year, to predict as a number; standardised features", 442, 10
    ),
}
