"""Encodings of text files."""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING

from service.datasets.files.opening import open_file
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES = 4 * 1024 * 1024
UTF_8, WESTERN = "utf-8", "cp1252"  # Windows-1252 is Latin-1 with letters in place of some control characters
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NAMES = {"utf-8-sig": "UTF-8", WESTERN: "Latin-1 (Windows-1252)", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def encoding_of(path: Path) -> str:
    """Return Python's name of a file's encoding: UTF-8, UTF-16, UTF-32 or Windows-1252.

    Raises DatasetError if it has none of these, naming the line.
    """
    with open_file(path) as file:
        start = file.read(1024)
        for mark, encoding in MARKS.items():
            if start.startswith(mark):
                return encoding
        # Every other byte of Western text in UTF-16 is 0.
        for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if len(start) > 3 and start[first::2].count(0) > len(start) // 4 and not start[1 - first :: 2].count(0):
                return encoding
        file.seek(0)
        decoder = codecs.getincrementaldecoder(UTF_8)()
        lines, is_ascii, size = 1, True, os.fstat(file.fileno()).st_size
        done = 0
        while done < size and (chunk := file.read(CHUNK_BYTES)):
            done += len(chunk)
            if chunk.isascii() and not decoder.getstate()[0]:
                lines += chunk.count(b"\n")
                continue
            try:
                text = decoder.decode(chunk, final=done >= size)
            except UnicodeDecodeError as error:
                before = error.object[: error.start]
                # Text in UTF-8 that was valid so far is damaged here; it was no Latin-1.
                if not is_ascii or not before.isascii():
                    line = lines + before.count(b"\n")
                    raise DatasetError(f"{path.name} has bytes in line {line} that are no text in UTF-8") from None
                return WESTERN
            is_ascii = is_ascii and text.isascii()
            lines += text.count("\n")
    return UTF_8
