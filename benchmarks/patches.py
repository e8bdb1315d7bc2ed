"""What a random patch of a prepared case costs, image and target together, by how the case is stored: medseg's chunks,
a memory map of .npy, blosc2 and zarr, warm and cold.

    python benchmarks/patches.py WORK [--patch 128] [--repeat 8] [--rounds 3]

The case is a synthetic CT of 512 x 512 x 300, float32 as it is after resampling, and a target of 60 labels. One process
and one core. Warm: the files are in the page cache. Cold: before each patch the files are closed, dropped from the page
cache and opened again, and what is timed is the patch alone; a cache of the machine's host may still hold them. "disk"
is what the system fetched for a cold patch, "read" what went through read calls (mapped pages do not). Storages take
turns. blosc2 and zarr are left out where they are not installed (`pip install blosc2==4.14.1 zarr==3.1.6`).
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data import chunks
from medseg.data.patches import cut

SHAPE = (512, 512, 300)
LABELS = 60


def scan() -> np.ndarray:
    """(1, i, j, k): organs as smooth noise, grain of 1 voxel and sensor noise, noisy air around a body, normalised."""
    from scipy import ndimage

    chance = np.random.default_rng(0)
    coarse = chance.normal(scale=300, size=(33, 33, 20)).astype(np.float32)
    values = ndimage.zoom(coarse, [size / few for size, few in zip(SHAPE, coarse.shape, strict=True)], order=3)
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    values[((x - 256) / 220) ** 2 + ((y - 256) / 170) ** 2 > 1] = -1000
    for grain in (0, 1):
        noise = chance.normal(scale=12 + 8 * grain, size=SHAPE).astype(np.float32)
        values += ndimage.gaussian_filter(noise, grain) if grain else noise
    return ((values.clip(-1024, 3000) - 50) / 200)[None]


def ellipsoids() -> np.ndarray:
    """(1, i, j, k) of 0 to `LABELS`; later ones lie over earlier ones."""
    chance, painted = np.random.default_rng(1), np.zeros(SHAPE, np.uint8)
    for label in range(1, LABELS + 1):
        centre, radii = chance.uniform(0.2, 0.8, 3) * SHAPE, chance.uniform(8, 50, 3)
        low, high = np.maximum(centre - radii, 0).astype(int), np.minimum(centre + radii + 1, SHAPE).astype(int)
        axes = np.ogrid[tuple(slice(*ends) for ends in zip(low, high, strict=True))]
        terms = zip(axes, centre, radii, strict=True)
        inside = sum(((axis - middle) / radius) ** 2 for axis, middle, radius in terms) <= 1
        painted[tuple(slice(*ends) for ends in zip(low, high, strict=True))][inside] = label
    return painted[None]


@dataclass
class Storage:
    """A way to store an array, and what was seen of it.

    Attributes:
        write: (folder, name, array) -> what `read` needs to know.
        read: (folder, name, that) -> what can be sliced.
    """

    name: str
    write: Callable[[Path, str, np.ndarray], Any]
    read: Callable[[Path, str, Any], Any]
    known: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, list[float]] = field(default_factory=dict)

    def note(self, what: str, value: float) -> None:
        self.seen.setdefault(what, []).append(value)

    def open(self, folder: Path) -> list[Any]:
        return [self.read(folder, name, self.known[name]) for name in ("image", "target")]


def storages() -> Iterator[Storage]:
    yield Storage(
        "npy, memory map",
        lambda folder, name, array: np.save(folder / f"{name}.npy", array),
        lambda folder, name, _: np.load(folder / f"{name}.npy", mmap_mode="r"),
    )
    for size in (128, 256, 1024):
        yield Storage(f"medseg, {size} KiB", lambda *given, size=size: _by_medseg(size << 10, *given), chunks.read)
    if _installed("blosc2"):
        for chunk, block, mapped in ((64, 32, True), (64, 32, False), (32, 32, False), (128, 32, False)):
            yield _blosc2(chunk, block, mapped=mapped)
    if _installed("zarr"):
        yield from (_zarr(64, "lz4"), _zarr(32, "lz4"), _zarr(64, "zstd"))


def _by_medseg(size: int, folder: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    usual, chunks.BYTES = chunks.BYTES, size
    try:
        return chunks.write(folder, name, array)
    finally:
        chunks.BYTES = usual


def _blosc2(chunk: int, block: int, *, mapped: bool) -> Storage:
    import blosc2

    def write(folder: Path, name: str, array: np.ndarray) -> None:
        sides = {"chunks": (1, *3 * (chunk,)), "blocks": (1, *3 * (block,))}
        how = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
        blosc2.asarray(array, urlpath=str(folder / f"{name}.b2nd"), cparams=how, **sides)

    def read(folder: Path, name: str, _: None) -> Any:
        how = {"mmap_mode": "r"} if mapped else {}
        return blosc2.open(str(folder / f"{name}.b2nd"), mode="r", dparams={"nthreads": 1}, **how)

    return Storage(f"blosc2 {chunk}/{block}, {'mapped' if mapped else 'read'}", write, read)


def _zarr(side: int, codec: str) -> Storage:
    import zarr

    def write(folder: Path, name: str, array: np.ndarray) -> None:
        packed = zarr.codecs.BloscCodec(cname=codec, clevel=5 if codec == "lz4" else 1, shuffle="shuffle")
        shape = {"shape": array.shape, "dtype": array.dtype, "chunks": (1, *3 * (side,))}
        zarr.create_array(str(folder / f"{name}.zarr"), compressors=packed, **shape)[...] = array

    return Storage(
        f"zarr {side}, {codec}", write, lambda folder, name, _: zarr.open_array(str(folder / f"{name}.zarr"), mode="r")
    )


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def store(storage: Storage, folder: Path, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    started = time.perf_counter()
    storage.known = {name: storage.write(folder, name, array) for name, array in arrays.items()}
    storage.note("write", time.perf_counter() - started)
    os.sync()  # only clean pages can be dropped
    storage.note("size", sum(file.stat().st_size for file in _files(folder)))


def measure(storage: Storage, folder: Path, arrays: dict[str, np.ndarray], starts: list[Any], side: int) -> None:
    patch = (side, side, side)
    opened = storage.open(folder)
    for start in starts:
        same = zip(_cut(opened, start, patch), _cut([*arrays.values()], start, patch), strict=True)
        if not all(np.array_equal(one, two) for one, two in same):
            raise SystemExit(f"{storage.name}: another patch than was stored")
        worked = time.process_time()
        storage.note("warm", _seconds(partial(_cut, opened, start, patch)))
        storage.note("cpu", time.process_time() - worked)
    for start in starts:
        del opened
        gc.collect()  # a page that is mapped is not dropped
        _drop(folder)
        opened = storage.open(folder)
        before = _counted()
        storage.note("cold", _seconds(partial(_cut, opened, start, patch)))
        after = _counted()
        storage.note("disk", after["read_bytes"] - before["read_bytes"])
        storage.note("read", after["rchar"] - before["rchar"])
    opened = storage.open(folder)
    _whole(opened)
    storage.note("whole", _seconds(partial(_whole, opened)))


def _cut(opened: list[Any], start: Any, patch: Any) -> list[np.ndarray]:
    return [cut(array, start, patch) for array in opened]


def _whole(opened: list[Any]) -> list[np.ndarray]:
    return [np.array(array[...]) for array in opened]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _drop(folder: Path) -> None:
    for file in _files(folder):
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _counted() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _tell(storage: Storage) -> None:
    seen = storage.seen
    size, write, whole = seen["size"][0] / 1e6, seen["write"][0], min(seen["whole"])
    times = "".join(
        f"{min(seen[one]) * 1e3:>10.1f}{np.median(seen[one]) * 1e3:>8.1f}" for one in ("warm", "cpu", "cold")
    )
    volumes = "".join(f"{np.median(seen[one]) / 1e6:>11.1f}" for one in ("disk", "read"))
    print(f"{storage.name:24}{size:>8.0f}{write:>9.1f}{times}{volumes}{whole:>9.2f}", flush=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("work", type=Path, help="a folder for 3 GB of files on the disk that is asked about")
    asked.add_argument("--patch", type=int, default=128)
    asked.add_argument("--repeat", type=int, default=8, help="patches in a round")
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    packages = [name for name in ("numpy", "numcodecs", "blosc2", "zarr") if _installed(name)]
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages))
    arrays, chance = {"image": scan(), "target": ellipsoids()}, np.random.default_rng(2)
    every, folder = list(storages()), given.work / "stored"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for number, storage in enumerate(every):
            store(storage, folder / str(number), arrays)
        for _ in range(given.rounds):
            places = [[int(chance.integers(size - given.patch + 1)) for size in SHAPE] for _ in range(given.repeat)]
            for number, storage in enumerate(every):
                measure(storage, folder / str(number), arrays, places, given.patch)
    finally:
        shutil.rmtree(folder)
    times = "".join(f"{f'{one} ms':>10}{'median':>8}" for one in ("warm", "CPU", "cold"))
    print(f"{'':24}{'MB':>8}{'write s':>9}{times}{'disk MB':>11}{'read MB':>11}{'whole s':>9}", end="")
    print(f"   load {os.getloadavg()[0]:.1f}")
    for storage in every:
        _tell(storage)


if __name__ == "__main__":
    main()
