"""Windows of images as rows of a matrix, in blocks that fit into the cache."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array, Namespace

# Numbers in the rows of a block: in float32, half of a level-two cache of 1 MiB.
BLOCK = 131_072


@dataclass(frozen=True)
class Windows:
    """How windows lie in images: numbers along height and width."""

    count: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def are_pixels(self) -> bool:
        """Whether the windows are the pixels themselves, so that nothing is copied."""
        return self.kernel == self.stride == (1, 1)

    def block_size(self, images: int, channels: int) -> int:
        """Number of numbers in the rows of the largest block."""
        line = self.count[1] * prod(self.kernel) * channels
        return max((len(of) * len(lines) * line for of, lines in self.blocks(images, channels)), default=0)

    def blocks(self, images: int, channels: int) -> Iterator[tuple[range, range]]:
        """Yield the images and lines of windows of each block: whole images, or lines of a single image.

        The cut depends on nothing else, since BLAS chooses its kernels, and with them the bits, by the number of rows.
        """
        lines, line = self.count[0], self.count[1] * prod(self.kernel) * channels
        whole = BLOCK // (lines * line)
        if whole:
            for start in range(0, images, whole):
                yield range(start, min(start + whole, images)), range(lines)
            return
        part = max(1, BLOCK // line)
        for image in range(images):
            for start in range(0, lines, part):
                yield range(image, image + 1), range(start, min(start + part, lines))


def pack(xp: Namespace, images: Array, windows: Windows, rows: Array) -> Iterator[tuple[Array, range, range]]:
    """Yield the windows of images (batch, height, width, channels), block by block, as rows of a matrix.

    Yields the matrix (windows, numbers of a window), which is overwritten by the next one, the images, and the lines of
    windows. `rows` is a buffer of `windows.block_size`.
    """
    batch, channels = len(images), images.shape[3]
    if windows.are_pixels:
        yield images.reshape(-1, channels), range(batch), range(windows.count[0])
        return
    per_image, down, across, per_channel = images.strides
    view = xp.lib.stride_tricks.as_strided(
        images,
        (batch, *windows.count, *windows.kernel, channels),
        (
            per_image,
            windows.stride[0] * down,
            windows.stride[1] * across,
            windows.dilation[0] * down,
            windows.dilation[1] * across,
            per_channel,
        ),
    )
    for of, lines in windows.blocks(batch, channels):
        block = view[of.start : of.stop, lines.start : lines.stop]
        packed = rows[: block.size].reshape(block.shape)
        xp.copyto(packed, block)
        yield packed.reshape(prod(block.shape[:3]), -1), of, lines


def matrix_of(images: Array, of: range, lines: range) -> Array:
    """Return lines of images (batch, height, width, channels) as a matrix (pixels, channels), without a copy."""
    return images[of.start : of.stop, lines.start : lines.stop].reshape(-1, images.shape[3])
