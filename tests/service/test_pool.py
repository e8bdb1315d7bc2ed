"""How many workers there are, and what each may use."""

from __future__ import annotations

import pytest
import torch

from medseg.service.work import pool
from tests.service import site as sites


@pytest.fixture(autouse=True)
def looked_up_anew():
    pool.gpus.cache_clear()
    yield
    pool.gpus.cache_clear()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("", ["0", "1", "2", "0"]),
        ("4,5,7", ["4", "5", "7", "4"]),
        ("GPU-a,GPU-b,GPU-c", ["GPU-a", "GPU-b", "GPU-c", "GPU-a"]),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_worker_has_a_gpu_of_its_own(device, named, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    site = sites.site(tmp_path, workers=0, device=device)
    assert pool.count(site) == 3
    assert [pool.environment(site, number)["CUDA_VISIBLE_DEVICES"] for number in range(4)] == expected


def test_where_there_is_no_gpu_or_none_is_wanted_there_is_one_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pool.count(sites.site(tmp_path, workers=0, device="auto")) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    on_cpu = sites.site(tmp_path, workers=0, device="cpu")
    assert pool.count(on_cpu) == 1 and pool.environment(on_cpu, 0) == {}
    assert pool.count(sites.site(tmp_path, workers=5, device="cpu")) == 5


def test_the_cores_are_shared_out_unless_somebody_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "physical_cores", lambda: 8)
    assert pool.shared_out(sites.site(tmp_path, workers=3, threads=0)).work.threads == 2
    assert pool.shared_out(sites.site(tmp_path, workers=3, threads=5)).work.threads == 5
