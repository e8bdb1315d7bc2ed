"""What it costs to take objects in: CPU time of `medseg listen` for each GB received, beside dcmtk's storescp.

    python benchmarks/listener.py WORK [--gb 0.5] [--mb 0.5 8 64] [--rounds 3]

Both take the same files from dcmtk's storescu, one association, in turns. medseg syncs every object to the disk, hashes
it, and has it in its journal before it answers; storescp writes the file and answers. CPU time is that of the receiving
process with all of its threads, from the first byte to the last answer.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.60"
GB = 1e9
TICKS = os.sysconf("SC_CLK_TCK")


def study(folder: Path, number: int, megabytes: float, gb: float) -> list[Path]:
    """Objects of random pixels, so large that they are that many megabytes, of `gb` together."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, made = np.random.default_rng(number), []
    frames = max(1, round(megabytes * 1e6 / (512 * 512 * 2)))
    for n in range(max(1, round(gb * GB / (frames * 512 * 512 * 2)))):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage if frames == 1 else EnhancedCTImageStorage
        meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = f"{ROOT}.{number}.1.{n}", ExplicitVRLittleEndian
        one = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.Modality = f"{ROOT}.{number}", f"{ROOT}.{number}.1", "CT"
        one.PatientID, one.Rows, one.Columns, one.NumberOfFrames = "B1", 512, 512, frames
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.PixelData = draw.bytes(frames * 512 * 512 * 2)
        made.append(folder / f"{n:05}.dcm")
        one.save_as(made[-1], enforce_file_format=True)
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def receiver(name: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A receiver that answers; what it has taken goes with the block."""
    port = free_port()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    listen = {"port": port, "quiet_s": 3600}
    (folder / "site.yaml").write_text(yaml.safe_dump({"listen": listen, "keep": {"free_gib": 0}}))
    commands = {
        "medseg listen": [sys.executable, "-m", "medseg", "listen", str(folder / "site.yaml")],
        "storescp": ["storescp", "-aet", "MEDSEG", "-pdu", "131072", "-od", str(folder), str(port)],
    }
    process = subprocess.Popen(commands[name], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        echo = ["echoscu", "-aec", "MEDSEG", "127.0.0.1", str(port)]
        for _ in range(200):
            if subprocess.run(echo, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"{name} did not answer")
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


def cpu_s(process: int) -> float:
    """Of a process and all of its threads, proc(5)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--gb", type=float, default=0.5)
    parser.add_argument("--mb", type=float, nargs="+", default=[0.5, 8, 64])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    print(f"{machine}; median of {asked.rounds}")
    print(f"{'receiver':14} {'MB an object':>12} {'CPU s a GB':>11} {'MB/s':>7} {'peak MiB':>9}")
    for number, megabytes in enumerate(asked.mb, 1):
        files = study(asked.work / "sent", number, megabytes, asked.gb)
        size = sum(path.stat().st_size for path in files)
        found: dict[str, list[tuple[float, float, float]]] = {"medseg listen": [], "storescp": []}
        for _ in range(asked.rounds):
            for name, results in found.items():
                with receiver(name, asked.work / "taken") as (process, port):
                    before, start = cpu_s(process.pid), time.perf_counter()
                    send = ["storescu", "-aec", "MEDSEG", "+sd", "127.0.0.1", str(port), str(asked.work / "sent")]
                    subprocess.run(send, check=True, capture_output=True)
                    took = time.perf_counter() - start
                    spent = (cpu_s(process.pid) - before) / size * GB
                    results.append((spent, size / 1e6 / took, peak_mib(process.pid)))
        for name, results in found.items():
            spent, rate, peak = (statistics.median(values) for values in zip(*results, strict=True))
            print(f"{name:14} {size / len(files) / 1e6:12.1f} {spent:11.1f} {rate:7.0f} {peak:9.0f}")
        shutil.rmtree(asked.work / "sent")


if __name__ == "__main__":
    main()
