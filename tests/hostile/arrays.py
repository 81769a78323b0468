"""Feature files with one fault each; those that are only unusual are read."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file

GOOD = np.arange(60, dtype=np.float32).reshape(12, 5)


def npy_header(shape: tuple[int, ...], descr: str = "<f4", fortran: bool = False) -> bytes:
    """Return the header of a .npy file of version 1."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return stream.getvalue()


def objects(path: Path, canary: Path) -> None:
    np.save(path, np.array([[{"a": 1}, None]], dtype=object), allow_pickle=True)


def npz_bomb(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("feats.npy", "w") as member:
        member.write(npy_header((2**18, 2**12)))
        for _ in range(2**6):
            member.write(bytes(2**20))


def npz_lie(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("feats.npy", npy_header((2**18, 2**18)) + bytes(100))


def hdf5(make: Callable[[h5py.File, Path], None]) -> Callable[[Path, Path], None]:
    """Return a maker of a file with one group or data set."""

    def write(path: Path, canary: Path) -> None:
        with h5py.File(path, "w") as file:
            make(file, canary)

    return write


def nested(file: h5py.File, canary: Path) -> None:
    group = file
    for _ in range(40):
        group = group.create_group("a")
    group["feats"] = GOOD


def circle(file: h5py.File, canary: Path) -> None:
    group = file.create_group("a")
    group["a"] = group


def external_link(file: h5py.File, canary: Path) -> None:
    file["feats"] = h5py.ExternalLink(str(canary), "feats")


def soft_link(file: h5py.File, canary: Path) -> None:
    file["feats"] = h5py.SoftLink("/nothing")


def external_storage(file: h5py.File, canary: Path) -> None:
    file.create_dataset("feats", (12, 5), "f4", external=[(str(canary), 0, 240)])


def virtual(file: h5py.File, canary: Path) -> None:
    layout = h5py.VirtualLayout((12, 5), "f4")
    layout[:] = h5py.VirtualSource(str(canary), "feats", (12, 5))
    file.create_virtual_dataset("feats", layout)


def safetensors_of(tensor: torch.Tensor) -> Callable[[Path, Path], None]:
    return lambda path, canary: save_file({"feats": tensor}, path)


def torch_of(value: object) -> Callable[[Path, Path], None]:
    return lambda path, canary: torch.save(value, path)


def text(content: str | bytes) -> Callable[[Path, Path], None]:
    return lambda path, canary: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def sparse(path: Path, canary: Path) -> None:
    """A file as large as its header says, of nothing but zeros that need no disk."""
    path.write_bytes(npy_header((2**20, 2**12)))
    os.truncate(path, path.stat().st_size + 2**34)


class Evil:
    """Runs a command when it is unpickled freely."""

    def __reduce__(self):
        return os.system, ("touch /tmp/lofi-strangers-were-here",)


LIE = b'{"feats": {"dtype": "F32", "shape": [99999, 99999], "data_offsets": [0, 39999200004]}}'
REFUSED: dict[str, Callable[[Path, Path], None]] = {
    "objects.npy": objects,
    "huge.npy": text(npy_header((10**6, 10**6)) + bytes(100)),
    "endless.npy": text(npy_header((2**40, 2**40)) + bytes(100)),
    "negative.npy": text(npy_header((-3, 5)) + bytes(100)),
    "complex.npy": lambda path, canary: np.save(path, GOOD.astype(np.complex64)),
    "texts.npy": lambda path, canary: np.save(path, GOOD.astype("U9")),
    "times.npy": lambda path, canary: np.save(path, GOOD.astype("M8[s]")),
    "records.npy": lambda path, canary: np.save(path, np.zeros((3, 3), [("a", "f4"), ("b", "i4")])),
    "code.npy": text(b"\x93NUMPY\x01\x00v\x00__import__('os').abort()" + b" " * 91 + b"\n"),
    "zip.npy": npz_lie,
    "empty.npy": text(b""),
    "nan.npy": lambda path, canary: np.save(path, np.full((3, 3), np.nan, np.float32)),
    "flat.npy": lambda path, canary: np.save(path, np.zeros(7, np.float32)),
    "sparse.npy": sparse,
    "bomb.npz": npz_bomb,
    "lie.npz": npz_lie,
    "objects.npz": lambda path, canary: np.savez(path, feats=np.array([[{}]], dtype=object)),
    "external.h5": hdf5(external_link),
    "soft.h5": hdf5(soft_link),
    "storage.h5": hdf5(external_storage),
    "virtual.h5": hdf5(virtual),
    "nested.h5": hdf5(nested),
    "circle.h5": hdf5(circle),
    "huge.h5": hdf5(lambda file, canary: file.create_dataset("feats", (10**6, 10**6), "f4", chunks=(100, 100))),
    "complex.h5": hdf5(lambda file, canary: file.create_dataset("feats", data=GOOD.astype(np.complex64))),
    "texts.h5": hdf5(lambda file, canary: file.create_dataset("feats", data=["a", "b"], dtype=h5py.string_dtype())),
    "nothing.h5": hdf5(lambda file, canary: file.create_dataset("feats", shape=None, dtype="f4")),
    "cut.h5": text(b"\x89HDF\r\n\x1a\n" + bytes(50)),
    "complex.safetensors": safetensors_of(torch.zeros(3, 3, dtype=torch.complex64)),
    "header.safetensors": text((2**62).to_bytes(8, "little") + b"{}"),
    "lie.safetensors": text((len(LIE)).to_bytes(8, "little") + LIE + bytes(64)),
    "stretched.pt": torch_of(torch.zeros(1).expand(10**6, 10**6)),
    "complex.pt": torch_of(torch.zeros(3, 3, dtype=torch.complex64)),
    "sparse.pt": torch_of(
        torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (10**6, 10**6), check_invariants=True)
    ),
    "code.pt": torch_of(Evil()),
    "words.csv": text("a,b\nc,d\n"),
    "ragged.csv": text("1,2\n3\n4,5,6\n"),
    "digits.csv": text("9" * 100_000 + ",1\n2,3\n"),
    "zeros.csv": text(bytes(5000)),
    "latin.csv": text(b"caf\xe9,1\n2,3\n"),
}
READ: dict[str, Callable[[Path, Path], None]] = {
    "fortran.npy": lambda path, canary: np.save(path, np.asfortranarray(GOOD)),
    "big_endian.npy": lambda path, canary: np.save(path, GOOD.astype(">f8")),
    "half.npy": lambda path, canary: np.save(path, GOOD.astype(np.float16)),
    "whole.npy": lambda path, canary: np.save(path, GOOD.astype(np.int64)),
    "big_endian.h5": hdf5(lambda file, canary: file.create_dataset("feats", data=GOOD.astype(">f4"))),
    "grouped.h5": hdf5(lambda file, canary: file.create_group("video").create_dataset("feats", data=GOOD)),
    "half.safetensors": safetensors_of(torch.from_numpy(GOOD).half()),
    "brain.pt": torch_of(torch.from_numpy(GOOD).bfloat16()),
}
"""Unusual, and as good as any other: each holds :data:`GOOD`."""
