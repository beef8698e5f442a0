"""Windows of images, and sums of windows, in blocks that fit into the cache."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array, Namespace, Shape

# Numbers in the rows of a block: in float32, 1 MiB. Measured on ten layers: with a quarter of it, calls take up to 30 %
# of the time of narrow layers, and with twice as much, weight gradients are slower.
BLOCK = 262_144


@dataclass(frozen=True)
class Windows:
    """How windows lie in images, along height and width.

    count: windows. kernel: entries of a window, which are `dilation` apart. stride: distance between windows. size:
    of the image. before: zeros before it. padded: its size with the zeros around it.
    """

    count: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[int, int]
    before: tuple[int, int]
    padded: tuple[int, int]

    @property
    def are_pixels(self) -> bool:
        """Whether the windows are the pixels themselves, so that nothing is copied."""
        return self.kernel == self.stride == (1, 1) and self.padded == self.size

    def buffers(self, images: int, channels: int) -> tuple[int, int]:
        """Return how many numbers the two buffers of `unpack` hold."""
        if self.are_pixels:
            return 0, 0
        whole, lines = self._most(channels)
        whole = min(whole, images)
        line = self.count[1] * prod(self.kernel) * channels
        return whole * prod(self.padded) * channels, whole * lines * line

    def blocks(self, images: int, channels: int) -> Iterator[tuple[range, range]]:
        """Yield the images and lines of windows of each block: whole images, or lines of a single image.

        The cut depends on nothing else, since BLAS chooses its kernels, and with them the bits, by the number of rows.
        """
        whole, part = self._most(channels)
        for image in range(0, images, whole):
            for start in range(0, self.count[0], part):
                yield range(image, min(image + whole, images)), range(start, min(start + part, self.count[0]))

    def _most(self, channels: int) -> tuple[int, int]:
        """Return the images of a full block, and the lines of each."""
        lines, line = self.count[0], self.count[1] * prod(self.kernel) * channels
        whole = BLOCK // (lines * line)
        return (whole, lines) if whole else (1, min(lines, max(1, BLOCK // line)))


def unpack(
    xp: Namespace, images: Array, windows: Windows, padded: Array, rows: Array
) -> Iterator[tuple[Array, range, range]]:
    """Write the sums of windows into images (batch, height, width, channels), block by block.

    Yields a matrix (windows, numbers of a window), to be written, its images, and its lines of windows. Then each row
    is added to the pixels of its window, in a fixed order. `padded` and `rows` are buffers as long as `windows.buffers`
    says.
    """
    batch, channels = len(images), images.shape[3]
    target, inner = _with_zeros(images, windows, padded)
    target.fill(0)
    view = xp.lib.stride_tricks.as_strided(target, *_layout(target, windows))
    # Windows that are this far apart along a line share no pixel, so that their lines are added at once.
    apart = -(-((windows.kernel[1] - 1) * windows.dilation[1] + 1) // windows.stride[1])
    for of, lines in windows.blocks(batch, channels):
        place = slice(of.start, of.stop)
        if inner is not None:
            place = slice(0, len(of))
            if lines.start == 0:
                target[place].fill(0)
        shape = (len(of), len(lines), windows.count[1], *windows.kernel, channels)
        block = rows[: prod(shape)].reshape(shape)
        yield block.reshape(prod(shape[:3]), -1), of, lines
        for down in range(windows.kernel[0]):
            for first in range(min(apart, windows.count[1])):
                pixels = view[place, lines.start : lines.stop, first::apart, down]
                xp.add(pixels, block[:, :, first::apart, down], out=pixels)
        if inner is not None and lines.stop == windows.count[0]:
            xp.copyto(images[of.start : of.stop], inner[place])


def _with_zeros(images: Array, windows: Windows, padded: Array) -> tuple[Array, Array | None]:
    """Return a block of zeros for padded images, and its part for the images; the images and None without padding."""
    if windows.padded == windows.size:
        return images, None
    whole = next((len(of) for of, _ in windows.blocks(len(images), images.shape[3])), 0)
    shape = (whole, *windows.padded, images.shape[3])
    block = padded[: prod(shape)].reshape(shape)
    block.fill(0)
    (top, left), (height, width) = windows.before, windows.size
    return block, block[:, top : top + height, left : left + width]


def _layout(images: Array, windows: Windows) -> tuple[Shape, tuple[int, ...]]:
    """Return shape and strides of the windows (batch, down, across, *kernel, channels) as a view of images."""
    per_image, down, across, per_channel = images.strides
    return (len(images), *windows.count, *windows.kernel, images.shape[3]), (
        per_image,
        windows.stride[0] * down,
        windows.stride[1] * across,
        windows.dilation[0] * down,
        windows.dilation[1] * across,
        per_channel,
    )


def matrix_of(images: Array, of: range, lines: range) -> Array:
    """Return lines of images (batch, height, width, channels) as a matrix (pixels, channels), without a copy."""
    return images[of.start : of.stop, lines.start : lines.stop].reshape(-1, images.shape[3])
