"""Convolution as products with windows of single lines.

A window of 5 x 5 pixels is 5 windows of a line, one below the other, and the window below it has 4 of them as well. So
only windows of lines are copied. Lines of the padding are left out of the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from core.kernels.im2row import Windows, matrix_of
from core.kernels.products import multiply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core.arrays import Array, Namespace, Shape

# Numbers between rows of a matrix. Rows that are a multiple of 4 KiB apart would have the same places in the cache.
APART = 16

# Numbers of the arrays of a part: in float32, 0.75 MiB. Measured on ten layers: with two thirds of it, the calls take
# longer, and with a third more, weight gradients of some layers are a third slower.
BLOCK = 196_608


# Windows in a line from which on the products of each line are written where they belong, instead of those of several
# images at once being copied there: with fewer, BLAS is slower.
WIDE = 16

# Windows of an image from which on their weight gradients are computed image by image.
MANY = 1024


@dataclass(frozen=True)
class Part:
    """Windows that are computed together: those of whole images, or lines of windows of a single one.

    of: images. lines: lines of windows. read: the lines of the images that they reach. first: where the first line of
    windows begins, counted from the first line that is read; negative in the padding.
    """

    of: range
    lines: range
    read: range
    first: int

    @property
    def places(self) -> tuple[slice, slice]:
        """Where the windows lie in an array (batch, windows down, ...)."""
        return slice(self.of.start, self.of.stop), slice(self.lines.start, self.lines.stop)


@dataclass(frozen=True)
class Vertical:
    """How windows lie along the height: `count` of them, the first begins at line `first` of `size` lines."""

    count: int
    kernel: int
    stride: int
    dilation: int
    first: int
    size: int


def parts(windows: Windows, images: int, channels: int, filters: int, *, single: bool = False) -> Iterator[Part]:
    """Yield parts whose arrays fit into the cache; with `single`, each is of one image.

    The cut depends on nothing else, since BLAS chooses its kernels, and with them the bits, by the number of rows.
    """
    down, step, size = windows.count[0], windows.stride[0], windows.size[0]
    whole, most, reach = _cut(windows, channels, filters)
    if single:
        whole = min(whole, 1)
    for image in range(0, images, max(1, whole)):
        for start in range(0, down, most):
            lines = range(start, min(start + most, down))
            first = start * step - windows.before[0]
            reached = range(max(0, first), max(0, min(size, first + (len(lines) - 1) * step + reach)))
            if whole:
                reached = range(size)
            yield Part(range(image, min(image + max(1, whole), images)), lines, reached, first - reached.start)


def _cut(windows: Windows, channels: int, filters: int) -> tuple[int, int, int]:
    """Return the images of a part, 0 where one is cut, its lines of windows, and the lines that a window reaches."""
    across, (down, _), (step, _) = windows.count[1], windows.count, windows.stride
    read, written = across * windows.kernel[1] * channels, across * filters  # numbers in a line
    reach = (windows.kernel[0] - 1) * windows.dilation[0] + 1
    whole = BLOCK // (windows.size[0] * read + down * written)
    most = down if whole else min(down, max(1, (BLOCK - (reach - step) * read) // (step * read + written)))
    return whole, -(-down // -(-down // most)), reach  # parts of about equal size


def buffers(windows: Windows, images: int, channels: int, filters: int) -> dict[str, int]:
    """Return how many numbers the scratch buffers of `convolve` and `correlate` hold."""
    if windows.are_pixels:
        return {"padded": 0, "rows": 0, "sums": 0}
    across, entry = windows.count[1], windows.kernel[1] * channels
    whole, most, reach = _cut(windows, channels, filters)
    of = min(max(1, whole), images)
    read = windows.size[0] if whole else min(windows.size[0], (most - 1) * windows.stride[0] + reach)
    return {
        "padded": of * read * windows.padded[1] * channels,
        "rows": of * across * (read * entry + APART),
        "sums": of * most * across * filters,
    }


def convolve(
    xp: Namespace,
    images: Array,
    weight: Array,
    windows: Windows,
    scratch: Mapping[str, Array],
    out: Array,
    bias: Array | None,
) -> None:
    """Write the products of windows and weights into `out` (batch, windows down, windows across, filters).

    images: (batch, height, width, channels). weight: a matrix (numbers of a window, filters). bias: added to each line
    of windows, (windows across, filters). scratch: see `buffers`.
    """
    channels, filters, across = images.shape[3], weight.shape[1], windows.count[1]
    entry = windows.kernel[1] * channels
    for part in parts(windows, len(images), channels, filters):
        target = out[part.places]
        if windows.are_pixels:
            multiply(xp, matrix_of(images, part.of, part.lines), weight, matrix_of(out, part.of, part.lines))
            if bias is not None:
                xp.add(target, bias, out=target)
            continue
        row = len(part.read) * entry + APART
        windows_apart = len(part.of) * across
        _copy(xp, images, windows, part, scratch, (across * row, entry, row), windows.dilation[0])
        if across >= WIDE:
            for lines, place, reached in _sums(_vertical(windows, part)):
                into = target[:, lines.start : lines.stop]
                if not reached:
                    into.fill(0)
                    continue
                shape = (*into.shape[:3], len(reached) * entry)
                strides = (across * row, windows.stride[0] * entry, row, 1)
                rows = _view(xp, scratch["rows"], place * entry, shape, strides)
                multiply(xp, rows, weight[reached.start * entry : reached.stop * entry], into)
            if bias is not None:
                xp.add(target, bias, out=target)
            continue
        for lines, place, reached in _sums(_vertical(windows, part)):
            sums = scratch["sums"][: len(lines) * windows_apart * filters]
            sums = sums.reshape(len(lines), windows_apart, filters)
            if reached:
                shape = (len(lines), windows_apart, len(reached) * entry)
                rows = _view(xp, scratch["rows"], place * entry, shape, (windows.stride[0] * entry, row, 1))
                multiply(xp, rows, weight[reached.start * entry : reached.stop * entry], sums)
            else:
                sums.fill(0)
            values = sums.reshape(len(lines), len(part.of), across, filters).swapaxes(0, 1)
            if bias is None:
                xp.copyto(target[:, lines.start : lines.stop], values)
            else:
                xp.add(values, bias, out=target[:, lines.start : lines.stop])


def correlate(
    xp: Namespace,
    images: Array,
    upstream: Array,
    windows: Windows,
    scratch: Mapping[str, Array],
    partial: Array,
    out: Array,
) -> None:
    """Write the gradient of the weights into `out`, a matrix (numbers of a window, filters).

    upstream: (batch, windows down, windows across, filters). partial: scratch (numbers of a line of a window, filters).
    The gradients of the parts are added in their order.
    """
    channels, filters, across = images.shape[3], out.shape[1], windows.count[1]
    entry, done = windows.kernel[1] * channels, False
    # The upstream gradient of a single image is not copied, but then there are more and smaller products.
    single = prod(windows.count) >= MANY
    for part in parts(windows, len(images), channels, filters, single=single):
        if windows.are_pixels:
            rows, above = matrix_of(images, part.of, part.lines), matrix_of(upstream, part.of, part.lines)
            pairs: Sequence[tuple[range, int]] = [(range(len(part.lines)), 0)]
        else:
            # Line by line of all images, so that neighbouring lines are one matrix.
            of_line = len(part.of) * across
            _copy(xp, images, windows, part, scratch, (across * entry, of_line * entry, entry), windows.stride[0])
            rows = scratch["rows"][: len(part.read) * of_line * entry].reshape(-1, entry)
            above = _line_by_line(xp, upstream[part.places], scratch["sums"])
            pairs = _pairs(_vertical(windows, part))
        of_line = len(above) // len(part.lines)
        for number, (lines, place) in enumerate(pairs):
            total = out[number * entry : (number + 1) * entry]
            if not lines:
                if not done:
                    total.fill(0)
                continue
            into = partial if done else total
            left = rows[place * of_line : (place + len(lines)) * of_line]
            multiply(xp, left.T, above[lines.start * of_line : lines.stop * of_line], into)
            if done:
                xp.add(total, into, out=total)
        done = True
    if not done:  # no images
        out.fill(0)


def _vertical(windows: Windows, part: Part) -> Vertical:
    size = len(part.read)
    return Vertical(len(part.lines), windows.kernel[0], windows.stride[0], windows.dilation[0], part.first, size)


@lru_cache(maxsize=1024)
def _sums(axis: Vertical) -> list[tuple[range, int, range]]:
    """Return lines of windows that reach the same lines of their kernel, the place of their first one, and those."""
    reached = []
    for line in range(axis.count):
        begin = line * axis.stride + axis.first
        start = max(0, -(begin // axis.dilation))
        stop = max(start, min(axis.kernel, (axis.size - 1 - begin) // axis.dilation + 1))
        # With a dilation, the lines of the kernel lie side by side, but not those of several windows.
        reached.append((start, stop, 0 if axis.dilation == 1 else line))
    found, line = [], 0
    for (start, stop, _), equal in groupby(reached):
        lines = range(line, line + len(list(equal)))
        begin = line * axis.stride + axis.first + start * axis.dilation
        found.append((lines, _place(begin, axis.size, axis.dilation), range(start, stop)))
        line = lines.stop
    return found


@lru_cache(maxsize=1024)
def _pairs(axis: Vertical) -> list[tuple[range, int]]:
    """Return, for each line of the kernel, the lines of windows in which it lies in the image, and its place."""
    found = []
    for number in range(axis.kernel):
        begin = number * axis.dilation + axis.first
        start = max(0, -(begin // axis.stride))
        stop = max(start, min(axis.count, (axis.size - 1 - begin) // axis.stride + 1))
        found.append((range(start, stop), _place(start * axis.stride + begin, axis.size, axis.stride)))
    return found


def _place(line: int, size: int, step: int) -> int:
    """Return where a line lies if the lines that are `step` apart lie side by side: those from 0, those from 1, ..."""
    return sum(len(range(phase, size, step)) for phase in range(min(line % step, size))) + line // step


def _copy(
    xp: Namespace,
    images: Array,
    windows: Windows,
    part: Part,
    scratch: Mapping[str, Array],
    strides: tuple[int, int, int],
    step: int,
) -> None:
    """Copy the windows of the lines that a part reads to `scratch["rows"]`.

    strides: distances, in numbers, of images, lines and windows there. Lines that are `step` apart lie side by side.
    """
    channels, across = images.shape[3], windows.count[1]
    source = images[part.of.start : part.of.stop, part.read.start : part.read.stop]
    if windows.padded[1] > windows.size[1]:
        shape = (*source.shape[:2], windows.padded[1], channels)
        padded = scratch["padded"][: prod(shape)].reshape(shape)
        inner = slice(windows.before[1], windows.before[1] + windows.size[1])
        padded[:, :, : inner.start] = 0
        padded[:, :, inner.stop :] = 0
        xp.copyto(padded[:, :, inner], source)
        source = padded
    (of_image, of_line, of_pixel, of_channel), size = source.strides, images.dtype.itemsize
    shape, entry = (*source.shape[:2], across), (windows.kernel[1], channels)
    from_strides = (of_image, of_line, windows.stride[1] * of_pixel)
    to_strides = tuple(size * each for each in strides)
    if xp is np and windows.dilation[1] == 1 and source.flags.c_contiguous:
        # The numbers of a window are one entry, because long entries are copied faster.
        of_bytes = f"V{prod(entry) * size}"
        view = np.ndarray(shape, of_bytes, source, 0, from_strides)
        target = np.ndarray(shape, of_bytes, scratch["rows"], 0, to_strides)
    else:
        pixels = (windows.dilation[1] * of_pixel, of_channel)
        view = xp.lib.stride_tricks.as_strided(source, (*shape, *entry), (*from_strides, *pixels))
        numbers = (size * channels, size)
        target = xp.lib.stride_tricks.as_strided(scratch["rows"], (*shape, *entry), (*to_strides, *numbers))
    place = 0
    for phase in range(min(step, shape[1])):
        lines = view[:, phase::step]
        xp.copyto(target[:, place : place + lines.shape[1]], lines)
        place += lines.shape[1]


def _line_by_line(xp: Namespace, upstream: Array, buffer: Array) -> Array:
    """Return (images, lines, windows, filters) as a matrix whose rows are the windows of line after line."""
    if len(upstream) == 1:
        return upstream.reshape(-1, upstream.shape[3])
    images, lines, across, filters = upstream.shape
    copied = buffer[: upstream.size].reshape(lines, images, across, filters)
    xp.copyto(copied, upstream.swapaxes(0, 1))
    return copied.reshape(-1, filters)


def _view(xp: Namespace, vector: Array, start: int, shape: Shape, strides: tuple[int, ...]) -> Array:
    """Return a part of a vector as an array with these strides, in numbers."""
    of_bytes = tuple(vector.dtype.itemsize * each for each in strides)
    if xp is np:
        return np.ndarray(shape, vector.dtype, vector, start * vector.dtype.itemsize, of_bytes)
    view: Array = xp.lib.stride_tricks.as_strided(vector[start:], shape, of_bytes)
    return view
