"""Weights files that others made: safetensors, or torch files, of which nothing but tensors and plain data is read.

A torch file is a pickle, and a pickle is a program. It is read by torch's restricted unpickler, which calls nothing
but what is on a list; numpy's scalars and arrays of numbers are added to that list, because nnU-Net's files hold some.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import pickletools
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medseg.boundary import parsing
from medseg.refusal import Refusal

Announce = Callable[[str], None]
PLACES = ("network_weights", "state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Keys under which files keep the weights: nnU-Net v2's first, which has other tensors beside them."""
SUFFIXES = (".pt", ".pth", ".model", ".ckpt", ".bin", ".safetensors")
"""Of weights inside a zip that somebody packed."""
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""
NUMBERS = "?bBhHiIlLqQefd"
"""Kinds of numpy numbers that may be unpickled."""
PICKLES = 4
"""A torch file of the old kind begins with so many pickles: three facts about itself, then the content."""
HARMLESS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|(builtins|__builtin__)\.(bytearray|set|complex)"
    r"|torch\.(\w*Storage|storage\.\w+Storage|[a-z]+\d+|Size|Tensor|device|nn\.parameter\.Parameter|_utils\._rebuild_\w+"
    r"|_tensor\._rebuild_from_type_v2|serialization\._get_layout)"
    r"|numpy\.(ndarray|dtype|dtypes\.\w+|_?core\.multiarray\.(scalar|_reconstruct))"
)
"""Names that a file of tensors and plain data may hold."""
COMPILED = "the TorchScript code in it"
STAND_INS = {b"version https://git-lfs": "a Git LFS pointer", b"<!doctype html": "a web page", b"<html": "a web page"}
"""How small files begin that were downloaded in place of the weights."""
DAMAGED = "download or copy it again"


def read(path: Path, *, allow_pickle: bool = False, announce: Announce = print) -> dict[str, Tensor]:
    """The weights in a file, by name, without wrappers' prefixes.

    Args:
        path: a .safetensors file, a torch file, or a zip that holds one of them.
        allow_pickle: run a torch file that needs more than tensors and plain data as the program that it is.
        announce: is told when that is done.

    Raises:
        Refusal: no such file, a damaged one, one that wants to run code, or one without weights.
    """
    if not path.is_file():
        raise Refusal(
            path,
            found="a folder" if path.is_dir() else "no such file",
            needed="a file with weights",
            remedy="check the path",
        )
    with path.open("rb") as handle:
        start = handle.read(64).lower()
    for sign, what in STAND_INS.items():
        if start.startswith(sign):
            raise Refusal(
                path, found=f"{what}, in place of the weights", needed="the file itself", remedy="download it again"
            )
    with tempfile.TemporaryDirectory(prefix="medseg-weights-") as folder:
        inner = _unpacked(path, Path(folder))
        if _is_safetensors(inner):
            found: Any = _safetensors(inner)
        else:
            found = _torch(inner, allow_pickle=allow_pickle, announce=announce, mapped=inner == path)
    return _unwrapped(_state(found, path))


def sha256(path: Path) -> str:
    """Of a file's bytes.

    Raises:
        Refusal: no such file.
    """
    if not path.is_file():
        raise Refusal(path, found="no such file", needed="a file with weights", remedy="check the path")
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _unpacked(path: Path, folder: Path) -> Path:
    """The file itself; or the one weights file in it, if it is a zip that is no torch file."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return path
    with parsing(path, needed="a whole zip", remedy=DAMAGED), zipfile.ZipFile(path) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        if any(name.rpartition("/")[2] == "data.pkl" for name in names):
            return path
        inside = [name for name in names if name.lower().endswith(SUFFIXES)]
        if len(inside) != 1:
            raise Refusal(
                path,
                found=f"a zip with {len(inside)} weights files: {', '.join(inside or names)[:200]}",
                needed="one",
                remedy="unpack it and name the file",
            )
        target = folder / ("weights" + Path(inside[0]).suffix.lower())
        with archive.open(inside[0]) as source, target.open("wb") as out:
            while block := source.read(1 << 20):
                out.write(block)
    return target


def _is_safetensors(path: Path) -> bool:
    """By its content (the length of a header, in 8 bytes, and the header, in JSON): files travel under other names."""
    with path.open("rb") as handle:
        start = handle.read(9)
    if path.suffix == ".safetensors" and start[:2] in (b"PK", b"\x80\x02"):  # torch.load goes by the name
        raise Refusal(
            path, found="a torch file", needed="a safetensors file, by its name", remedy="rename it to end in .pt"
        )
    return path.suffix == ".safetensors" or start[8:] == b"{"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise Refusal(
            path, found=f"a damaged safetensors file ({error})", needed="a whole file", remedy=DAMAGED
        ) from error


def _torch(path: Path, *, allow_pickle: bool, announce: Announce, mapped: bool) -> Any:
    """What a torch file holds. `mapped`: tensors are read from the file when they are used, which saves the memory of
    an optimiser's state."""
    mmap = mapped and zipfile.is_zipfile(path)
    with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's on odd pickles; what is wrong with them is said below
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:  # the border to a file of unknown quality: torch raises nearly anything
            wanted = _wanted(path)
            if not wanted:
                kind = "no" if isinstance(error, pickle.UnpicklingError) else "a damaged"
                raise Refusal(
                    path, found=f"{kind} torch file ({_first_line(error)})", needed="a whole one", remedy=DAMAGED
                ) from error
            if not allow_pickle:
                raise _program(path, wanted) from error
    announce(
        f"WARNING: --allow-pickle: {path} is opened as a program, which calls {wanted}. It can do whatever you can do "
        "on this machine. Go on only if you trust whoever made it."
    )
    with parsing(
        path, needed="a file whose program runs here", remedy="install what it imports, or ask for plain weights"
    ):
        return torch.load(path, map_location="cpu", weights_only=False)


def _program(path: Path, wanted: str) -> Refusal:
    return Refusal(
        path,
        found=f"a pickle that calls {wanted} when it is opened",
        needed="tensors and plain data only",
        remedy="ask its makers for safetensors, or for a file of weights alone. If you trust them as you would trust a "
        "program of theirs: --allow-pickle",
    )


def _wanted(path: Path) -> str:
    """What a file would call beyond the list, by name, read without calling it; empty if there is nothing."""
    names: set[str] = set()
    with contextlib.suppress(Exception):  # no pickle, or no further one: what was found is what there is to say
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inside = {name.rpartition("/")[2]: name for name in archive.namelist()}
                if "constants.pkl" in inside:  # torch.jit's own mark
                    return COMPILED
                with archive.open(inside["data.pkl"]) as handle:
                    names.update(_called(handle))
        else:
            with path.open("rb") as handle:
                for _ in range(PICKLES):
                    names.update(_called(handle))
    return ", ".join(sorted(name for name in names if not HARMLESS.fullmatch(name)))


def _called(handle: IO[bytes]) -> Iterator[str]:
    """Functions and classes that the next pickle in a file names."""
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(handle):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)


def _first_line(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words.rpartition("WeightsUnpickler error: ")[2].split(" Check the doc")[0].split(". ")[0][:200].rstrip(".")


def _numpy_numbers() -> list[Any]:
    """Numpy's scalars and arrays of numbers, under the names that numpy 1 and numpy 2 write."""
    makers = (np._core.multiarray.scalar, np._core.multiarray._reconstruct)  # type: ignore[attr-defined]
    named = [(maker, f"numpy.{core}.multiarray.{maker.__name__}") for maker in makers for core in ("core", "_core")]
    return [*named, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in NUMBERS}]


def _state(found: Any, path: Path) -> dict[str, Tensor]:
    """The dictionary of tensors in what was read."""
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if _is_state(found):
        return dict(found)
    if isinstance(found, Mapping):
        inside = {str(key): value for key, value in found.items() if _is_state(value)}
        known = [name for name in PLACES if name in inside] or list(inside)
        if known and (known[0] in PLACES or len(known) == 1):
            return dict(inside[known[0]])
        held = ", ".join(map(str, found)) or "nothing"
        raise Refusal(
            path,
            found=f"no weights under a usual name; it holds {held[:300]}",
            needed=f"tensors by name, alone or under one of {', '.join(PLACES)}",
            remedy="save the network's state_dict alone",
        )
    raise Refusal(
        path, found=f"a {type(found).__name__}", needed="tensors by name", remedy="save the network's state_dict alone"
    )


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(entry, Tensor) for key, entry in value.items())
    )


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while any(all(name.startswith(wrapper) for name in state) for wrapper in WRAPPERS):
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return {name.replace("._orig_mod.", "."): tensor for name, tensor in state.items()}
