"""Reads mutated files, in a process of its own: each must be a dataset or have a problem.

For the files from `first` to `last` it prints the number before and what came of it after, so that a number without a
result is a file that ended the process.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.orc as po
import pyarrow.parquet as pq

from service.datasets.preparation.preparation import Selection
from service.datasets.tasks.prepare import run
from service.datasets.tasks.serving import answer_of, limit
from tests.service.datasets.workbooks import workbook

INTERESTING = [b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0" * 8, b"\xff" * 8, b"("]


def table() -> pa.Table:
    columns = {"a": np.arange(60) * 0.5, "b": np.arange(60), "label": list("xyz") * 20}
    return pa.table(columns | {"t": [[row, 1.5] for row in range(60)]})


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(table(), file, row_group_size=25, compression="snappy")
    return file.getvalue()


def arrow() -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table().schema) as writer:
        writer.write_table(table())
    return file.getvalue()


def feather() -> bytes:
    file = io.BytesIO()
    pf.write_feather(table().set_column(2, "label", table()["label"].dictionary_encode()), file, compression="lz4")
    return file.getvalue()


def csv() -> bytes:
    lines = [f'{row / 2},"{row}",{"xyz"[row % 3]}' for row in range(60)]
    return "\n".join(["a,b,label", *lines]).encode()


def json_records() -> bytes:
    return json.dumps([{"a": row / 2, "b": f"{row}", "label": "xyz"[row % 3]} for row in range(60)]).encode()


def orc() -> bytes:
    file = io.BytesIO()
    po.write_table(pa.table({"a": [row / 2 for row in range(60)], "label": [row % 3 for row in range(60)]}), file)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(60) % 3)
    return file.getvalue()


def idx() -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, 60) + bytes(range(60))


def zipped(members: dict[str, bytes], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


Mutation = Callable[[bytes], bytes]


def arrays(mutated: Mutation, method: int) -> bytes:
    return zipped({"x.npy": mutated(npy()), "label.npy": mutated(npy())}, method)


def images(mutated: Mutation) -> dict[str, bytes]:
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, 60, 2, 2)
    return {"train-images-idx3-ubyte": mutated(head + bytes(240)), "train-labels-idx1-ubyte": mutated(idx())}


# File name, and its content, in which something is mutated: the file as a whole, or what is packed into it.
KINDS: dict[str, Callable[[Mutation], bytes]] = {
    "t.parquet": lambda mutated: mutated(parquet()),
    "t.arrow": lambda mutated: mutated(arrow()),
    "t.feather": lambda mutated: mutated(feather()),
    "t.csv": lambda mutated: mutated(csv()),
    "t.csv.gz": lambda mutated: mutated(gzip.compress(csv())),
    "u.csv.gz": lambda mutated: gzip.compress(mutated(csv())),
    "t.npz": lambda mutated: arrays(mutated, zipfile.ZIP_DEFLATED),
    "u.npz": lambda mutated: mutated(arrays(bytes, zipfile.ZIP_STORED)),
    "l.zip": lambda mutated: mutated(zipped({"t.csv": csv()}, zipfile.ZIP_LZMA)),
    "b.zip": lambda mutated: mutated(zipped({"t.csv": csv()}, zipfile.ZIP_BZIP2)),
    "t.tar": lambda mutated: mutated(tarred({"t.csv": csv()})),
    "i.tar.gz": lambda mutated: gzip.compress(tarred(images(mutated))),
    "t.json": lambda mutated: mutated(json_records()),
    "t.orc": lambda mutated: mutated(orc()),
    "t.xlsx": lambda mutated: mutated(workbook([["a", "label"], *[[row / 2, "xyz"[row % 3]] for row in range(60)]])),
    "c.tar.gz": lambda mutated: gzip.compress(tarred({"data_batch_1.bin": mutated(bytes(3073 * 4))})),
}


def mutation(chance: random.Random) -> Mutation:
    """Changes one or more bytes, or cuts out, repeats or moves a piece."""

    def mutate(content: bytes) -> bytes:
        found = bytearray(content)
        for _ in range(chance.choice([1, 1, 1, 2, 4, 8])):
            at = chance.randrange(len(found) + 1)
            match chance.randrange(6):
                case 0:
                    found[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    found[at : at + 1] = bytes([(found[at] if at < len(found) else 0) ^ 1 << chance.randrange(8)])
                case 2:
                    piece = chance.choice(INTERESTING)
                    found[at : at + len(piece)] = piece
                case 3:
                    found[at:at] = chance.choice(INTERESTING) * chance.choice([1, 100, 9000])
                case 4:
                    del found[at : at + chance.choice([1, 4, 64, len(found)])]
                case _:
                    start = chance.randrange(len(found) + 1)
                    found[at:at] = found[start : start + chance.choice([1, 8, 100])]
        return bytes(found)

    return mutate


def tell(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main(seed: int, first: int, last: int) -> None:
    limit(1024**3, 600)
    for number in range(first, last):
        chance = random.Random(f"{seed}-{number}")
        name, build = chance.choice(list(KINDS.items()))
        tell(f"{number} {name} ")
        with TemporaryDirectory() as folder:
            uploads, workspace, directory = (Path(folder) / part for part in ("uploads", "work", "data"))
            for path in (uploads, workspace, directory):
                path.mkdir()
            (uploads / name).write_bytes(build(mutation(chance)))
            arguments = {
                "places": {"path": {"roots": [str(uploads)], "path": name}},
                "selection": vars(Selection(features=None)),
                "workspace": str(workspace),
                "directory": str(directory),
                "max_bytes": 2**22,
            }
            try:
                answer = answer_of(run, {"what": name, "arguments": arguments})
            except MemoryError:
                answer = {"problem": "memory"}
        kind = "unexpected" if "traceback" in answer else next(iter(answer))
        tell(f"{kind} {ascii(answer.get('problem', ''))[:200]}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
