"""bf16 safetensors files as numpy arrays of their bits."""

import json
import struct

import numpy as np


def tensors(file):
    """Name and bits ([…] of u16) of each tensor of a bf16 safetensors file."""
    data = np.memmap(file, dtype=np.uint8, mode="r")
    start = 8 + struct.unpack("<Q", data[:8].tobytes())[0]
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        yield name, data[start + first : start + end].view(np.uint16).reshape(entry["shape"])


def write(file, parts):
    """A safetensors file of `parts`, whose data is kept in memory meanwhile."""
    parts, header, end = list(parts), {"__metadata__": {"format": "pt"}}, 0
    for name, kind, array in parts:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, array in parts:
            out.write(np.ascontiguousarray(array).tobytes())
