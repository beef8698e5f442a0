"""Windows that slide over images: where they lie, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from core.layers.axes import IMAGE, check_axes

if TYPE_CHECKING:
    from core.arrays import Shape

#: one number for both axes, or one for the height and one for the width
Pair: TypeAlias = int | tuple[int, ...]
Padding: TypeAlias = int | tuple[int, ...] | Literal["valid", "same"]


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of an image.

    size: of the image. kernel: entries of a window, which are `dilation` apart. before, after: padding. count: windows,
    `stride` apart, the first of which begins in the first entry of the padding.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def padded(self) -> int:
        """Size of the image with its padding."""
        return self.before + self.size + self.after

    @property
    def extent(self) -> int:
        """Size of a window."""
        return (self.kernel - 1) * self.dilation + 1

    @cached_property
    def offsets(self) -> list[int]:
        """The entries of a window that lie inside the image in at least one window, in order.

        Of a window much larger than the image, these are a few.
        """
        found: set[int] = set()
        for number in range(self.count):
            first = self.before - number * self.stride  # where the image begins in this window
            found.update(
                range(
                    max(0, -(-first // self.dilation)), min(self.kernel, (first + self.size - 1) // self.dilation + 1)
                )
            )
        return sorted(found)

    def inside(self, offset: int, within: range | None = None) -> tuple[slice, slice]:
        """Return the windows whose entry number `offset` lies inside the image, and where these entries lie.

        `within` are the windows to look at, by default all.
        """
        windows = range(self.count) if within is None else within
        first = offset * self.dilation - self.before
        start = max(windows.start, -(first // self.stride))
        stop = min(windows.stop, (self.size - 1 - first) // self.stride + 1)
        if start >= stop:
            return slice(0, 0), slice(0, 0)
        begin = start * self.stride + first
        return slice(start, stop), slice(begin, begin + (stop - start - 1) * self.stride + 1, self.stride)

    def sizes(self) -> list[tuple[int, slice]]:
        """Return the sizes of the windows in the image and its padding, and the windows that have them."""
        sizes = [min(self.padded - number * self.stride, self.extent) for number in range(self.count)]
        found: list[tuple[int, slice]] = []
        for number, size in enumerate(sizes):
            if found and found[-1][0] == size:
                found[-1] = size, slice(found[-1][1].start, number + 1)
            else:
                found.append((size, slice(number, number + 1)))
        return found


@lru_cache(maxsize=256)  # a layer asks several times in each pass
def axes_of(
    where: str,
    image: Shape,
    *,
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair = 1,
    ceil: bool = False,
) -> tuple[Axis, Axis]:
    """Return the windows along height and width of an image (batch, height, width, channels).

    With `ceil`, a last window that reaches beyond the padding counts if it begins inside the image or before it, as in
    Caffe. Raises ValueError, which begins with `where`, if the shape is another or if no window fits.
    """
    check_axes(where, image, IMAGE)
    kernels, strides, dilations = (
        _pair(f"{where}.{name}", numbers)
        for name, numbers in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    paddings = (padding, padding) if isinstance(padding, str) else _pair(f"{where}.padding", padding)
    found = []
    for index, name in enumerate(("height", "width")):
        size, step, side = image[1 + index], strides[index], paddings[index]
        extent = (kernels[index] - 1) * dilations[index] + 1
        if side == "same":
            count = -(-size // step)
            total = max(0, (count - 1) * step + extent - size)
            before, after = total // 2, total - total // 2
        else:
            before = after = 0 if isinstance(side, str) else side
            free = size + 2 * before - extent
            if free < 0:
                spread = f", {kernels[index]} with the dilation {dilations[index]}" if extent > kernels[index] else ""
                padded = f", {size + 2 * before} with the padding" if before else ""
                message = f"{where} has windows of {extent} in {name}{spread}, but the image has {size}{padded}"
                raise ValueError(message)
            count = free // step + 1
            if ceil and free % step and count * step < size + before:
                count += 1
        found.append(Axis(size, kernels[index], step, dilations[index], before, after, count))
    return found[0], found[1]


def enlarged(
    where: str, image: Shape, *, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> tuple[int, int]:
    """Return the height and width of an image that has as many windows as `image` has pixels.

    Raises ValueError, which begins with `where`, if the shape is another or if the padding leaves nothing.
    """
    check_axes(where, image, IMAGE)
    kernels, strides, dilations = (
        _pair(f"{where}.{name}", numbers)
        for name, numbers in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    if padding == "same":
        return image[1] * strides[0], image[2] * strides[1]
    paddings = (0, 0) if padding == "valid" else _pair(f"{where}.padding", padding)
    sizes = []
    for index, name in enumerate(("height", "width")):
        whole = (image[1 + index] - 1) * strides[index] + (kernels[index] - 1) * dilations[index] + 1
        if whole <= 2 * paddings[index]:
            raise ValueError(f"{where} has a {name} of {whole}, of which a padding of {paddings[index]} leaves nothing")
        sizes.append(whole - 2 * paddings[index])
    return sizes[0], sizes[1]


def _pair(where: str, numbers: Pair) -> tuple[int, int]:
    if isinstance(numbers, int):
        return numbers, numbers
    if len(numbers) != 2:
        raise ValueError(f"{where} must be one number, or one for the height and one for the width, not {numbers}")
    return numbers[0], numbers[1]
