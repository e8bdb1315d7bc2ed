"""Arrays in chunks: any slice is the array's, damage is seen, equal arrays give equal bytes, others may read along."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data import chunks
from medseg.refusal import Refusal
from tests.tiny import ENVIRONMENT

SHAPES = [(1, 70, 41, 33), (3, 40, 35, 5), (2, 300, 200, 1), (4, 1, 1, 19), (1, 1, 1, 1)]
KINDS = [np.float32, np.uint8, np.int16]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(array, the same from disk), of every shape and kind."""
    folder, chance, made = tmp_path_factory.mktemp("stored"), np.random.default_rng(0), []
    for number, (shape, kind) in enumerate([(shape, kind) for shape in SHAPES for kind in KINDS]):
        array = (chance.normal(size=shape) * 100).astype(kind)
        described = chunks.write(folder, str(number), array)
        made.append((array, chunks.read(folder, str(number), described)))
    return made


def one_axis(size: int) -> st.SearchStrategy:
    return st.one_of(st.integers(-size, size - 1), st.slices(size), st.just(slice(None)))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_slice_is_the_arrays(stored, data):
    array, there = data.draw(st.sampled_from(stored))
    key = data.draw(st.tuples(*(one_axis(size) for size in array.shape)))
    if data.draw(st.booleans()):
        first, length = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))
        key = (*key[:first], ..., *key[first + length :])
    found, expected = there[key], array[key]
    assert np.array_equal(found, expected) and found.shape == expected.shape and found.dtype == expected.dtype


def test_it_looks_like_an_array(stored):
    for array, there in stored:
        assert (there.shape, there.dtype, there.ndim, len(there)) == (array.shape, array.dtype, 4, len(array))
        assert np.array_equal(np.asarray(there), array) and np.array_equal(there[0], array[0])
        assert np.array(there, np.float64).dtype == np.float64
        assert np.array_equal(np.take(there, [0], axis=3), array[..., :1])
        assert there[...].flags.owndata and there[...].flags.c_contiguous  # and so no further copy is made of a patch


@pytest.mark.parametrize("key", [(0,) * 5, (..., ...), [0, 1], 1.0, None, False, (0, 0, 0, 33), (0, -71)], ids=str)
def test_other_indices_are_errors(stored, key):
    with pytest.raises(IndexError):
        stored[0][1][key]


def test_chunks_hold_about_as_much_in_every_shape():
    assert chunks._chunk((1, 512, 512, 300), 32**3) == (32, 32, 32)
    assert chunks._chunk((3, 2000, 3000, 1), 32**3) == (181, 181, 1)
    assert chunks._chunk((1, 400, 20, 500), 32**3) == (40, 20, 40)
    assert chunks._chunk((5, 1, 1, 300), 32**3) == (1, 1, 300)


def test_only_what_a_patch_meets_is_read(tmp_path, monkeypatch):
    array = np.random.default_rng(0).normal(size=(1, 96, 96, 96)).astype(np.float32)
    there = chunks.read(tmp_path, "a", chunks.write(tmp_path, "a", array))
    seen = []
    monkeypatch.setattr(chunks, "crc32", lambda packed: seen.append(len(packed)) or 0)
    there = replace(there, sums=np.zeros(27, np.uint32))
    assert np.array_equal(there[:, 30:40, 40:50, 70:96], array[:, 30:40, 40:50, 70:96])
    assert len(seen) == 2 and sum(seen) < 2 * 32**3 * 4 * 1.1


def test_equal_arrays_give_equal_bytes_however_they_lie_in_memory(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 50, 40, 30)).astype(np.float32)
    mapped = np.lib.format.open_memmap(tmp_path / "m.npy", "w+", np.float32, array.shape, fortran_order=True)
    mapped[...] = array
    chunks.write(tmp_path, "a", array)
    chunks.write(tmp_path, "b", mapped)
    assert (tmp_path / "a.chunks").read_bytes() == (tmp_path / "b.chunks").read_bytes()
    assert (tmp_path / "a.index.npy").read_bytes() == (tmp_path / "b.index.npy").read_bytes()
    assert (tmp_path / "a.chunks").stat().st_size < array.nbytes


def test_writing_and_reading_take_the_memory_of_a_slab_and_of_a_patch(tmp_path):
    on_disk = np.lib.format.open_memmap(tmp_path / "m.npy", "w+", np.float32, (1, 256, 256, 128))
    tracemalloc.start()
    there = chunks.read(tmp_path, "a", chunks.write(tmp_path, "a", on_disk))
    assert tracemalloc.get_traced_memory()[1] < 2 * 32 * 256 * 128 * 4  # 4 MB a slab, 34 MB the array
    tracemalloc.reset_peak()
    patch = there[:, 10:138, 10:138, :]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert patch.nbytes < peak < 1.3 * patch.nbytes


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_refused_where_it_matters_and_nowhere_else(tmp_path, where):
    array = np.random.default_rng(0).normal(size=(1, 64, 64, 64)).astype(np.float32)
    there = chunks.read(tmp_path, "a", chunks.write(tmp_path, "a", array))
    content = bytearray((tmp_path / "a.chunks").read_bytes())
    byte = int(where * (len(content) - 1))
    content[byte] ^= 4
    (tmp_path / "a.chunks").write_bytes(content)
    hit = int(np.searchsorted(there.stops, byte, side="right")) - 1
    for number in range(8):
        i, j, k = (32 * int(one) for one in np.unravel_index(number, (2, 2, 2)))
        box = (slice(None), slice(i, i + 32), slice(j, j + 32), slice(k, k + 32))
        if number != hit:
            assert np.array_equal(there[box], array[box])
            continue
        with pytest.raises(Refusal, match=r"a\.chunks: found a damaged chunk"):
            there[box]


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_file_cut_short_or_gone_is_refused(tmp_path, harm):
    array = np.ones((1, 40, 40, 40), np.uint8)
    there = chunks.read(tmp_path, "a", chunks.write(tmp_path, "a", array))
    if harm == "cut":
        os.truncate(there.path, there.path.stat().st_size - 1)
    else:
        there.path.unlink()
    with pytest.raises(Refusal, match=r"a\.chunks: found a (damaged chunk|prepared case that cannot be read)"):
        there[...]


def test_where_the_system_cannot_read_ahead_the_values_are_the_same(tmp_path, monkeypatch):
    array = np.random.default_rng(0).normal(size=(1, 70, 70, 10)).astype(np.float32)
    there = chunks.read(tmp_path, "a", chunks.write(tmp_path, "a", array))
    monkeypatch.setattr(chunks, "AHEAD", None)
    assert np.array_equal(there[...], array)


def summed(there: chunks.Chunked) -> float:
    return float(there[:, 3:50].sum())


def test_workers_started_afresh_read_what_was_pickled(tmp_path):
    array = np.arange(60 * 40 * 8).reshape(1, 60, 40, 8).astype(np.int32)
    there = chunks.read(tmp_path, "a", chunks.write(tmp_path, "a", array))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(summed, (there,)) == array[:, 3:50].sum()
    assert np.array_equal(pickle.loads(pickle.dumps(there))[...], array)


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from medseg.data import cache, chunks
from medseg.labels import LabelTable
from medseg.transforms.prepare import Undo

array, left, compress = np.ones((1, 64, 64, 64), np.float32), [int(sys.argv[2])], chunks.blosc.compress

def dying(*given):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    return compress(*given)

chunks.blosc.compress = dying
undo, table = Undo.nothing((64, 64, 64)), LabelTable.of({"a": 1})
cache.write_case(Path(sys.argv[1]), "a", array, array.astype(np.uint8), undo, table)
"""


@pytest.mark.parametrize("chunk", [9, 17])
def test_killed_while_writing_nothing_has_the_final_name(tmp_path, chunk):
    """16 chunks are written; the 17th death never comes."""
    place = tmp_path / "case"
    script = [sys.executable, "-c", KILLED, str(place), str(chunk)]
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == (0 if chunk == 17 else -signal.SIGKILL), done.stderr
    assert place.exists() == (chunk == 17)
    assert all(path.name.startswith(".partial-") for path in Path(tmp_path).iterdir() if path != place)
