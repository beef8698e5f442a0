"""Words of messages: suggestions for misspelt names, and numbers of things."""

from collections.abc import Iterable, Sequence

LONGEST = 100  # characters; the comparison takes time proportional to the product of the lengths

#: names of other libraries, without separators and "loss" at the end, and those of the same thing here
OF_OTHERS = {
    "mse": ("mean_squared_error",),
    "l2": ("mean_squared_error", "l2"),
    "mae": ("absolute_error", "mean_absolute_error"),
    "meanabsoluteerror": ("absolute_error", "mean_absolute_error"),
    "l1": ("absolute_error", "l1"),
    "rmse": ("root_mean_squared_error",),
    "crossentropy": ("softmax",),
    "categoricalcrossentropy": ("softmax",),
    "sparsecategoricalcrossentropy": ("softmax",),
    "log": ("softmax",),
    "nll": ("softmax",),
    "bce": ("sigmoid_cross_entropy",),
    "bcewithlogits": ("sigmoid_cross_entropy",),
    "binarycrossentropy": ("sigmoid_cross_entropy",),
    "huber": ("huber",),
    "hinge": ("hinge",),
    "squaredhinge": ("hinge",),
    "multimargin": ("hinge",),
    "auc": ("roc_auc",),
    "rocaucscore": ("roc_auc",),
    "r2score": ("r2",),
    "f1score": ("f1",),
}


def suggest(name: object, known: Iterable[str]) -> str:
    """Return `"; did you mean 'relu'?"` with the known name closest to `name`, or `""` if none is close.

    A name that other libraries have for the same thing is closest, also after "val/". Otherwise close are names that
    differ in one letter in four, in at least one, besides capitals and separators.
    """
    text = _letters(str(name)[: LONGEST + 1])
    if len(text) > LONGEST:
        return ""
    known = list(known)
    place, _, last = text.rpartition("/")
    for ours in OF_OTHERS.get(last.removesuffix("loss"), ()):
        if (full := f"{place}/{ours}" if place else ours) in known:
            return f"; did you mean {full!r}?"
    best, most = None, max(1, len(text) // 4)
    for each in known:
        letters = _letters(each)
        # Each comparison ends where the name is no better than the best before.
        if abs(len(letters) - len(text)) <= most and (typos := _typos(text, letters, most)) <= most:
            best, most = each, typos - 1
    return "" if best is None else f"; did you mean {best!r}?"


def counted(number: int, thing: str, things: str = "") -> str:
    """Return a number of things in words, such as "1 row" and "2,000 rows"; `things` is an irregular plural."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def listed(names: Sequence[str]) -> str:
    """Return the first 20 names, and how many more there are."""
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in "_- ")


def _typos(first: str, second: str, most: int) -> int:
    """The least number of letters that were left out, added, replaced or swapped with the next one.

    If it is more than `most`, some number that is more than `most`.
    """
    before: list[int] = []
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first):
        # Letters that are further apart than `most` take more typos.
        current = [row + 1, *[most + 1] * len(second)]
        for column in range(max(0, row - most), min(len(second), row + most + 1)):
            other = second[column]
            steps = min(above[column] + (letter != other), above[column + 1] + 1, current[column] + 1)
            if before and column and letter == second[column - 1] and first[row - 1] == other:
                steps = min(steps, before[column - 1] + 1)
            current[column + 1] = steps
        if min(above) > most < min(current):
            return most + 1
        before, above = above, current
    return above[-1]
