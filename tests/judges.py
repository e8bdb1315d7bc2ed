"""Programs that nobody here wrote, as judges of what medseg writes and reads; tests skip where one is not installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = {
    "dciodvfy": "dicom3tools",
    "dcmdump": "dcmtk",
    "storescu": "dcmtk",
    "storescp": "dcmtk",
    "echoscu": "dcmtk",
    "dcmmkdir": "dcmtk",
    "dcmcjpeg": "dcmtk",
    "dcmconv": "dcmtk",
    "dcmdjpeg": "dcmtk",
    "dcmdrle": "dcmtk",
    "dcmdjpls": "dcmtk",
    "gdcmconv": "libgdcm-tools",
    "dcm2niix": "dcm2niix",
    "Orthanc": "orthanc",
}
PLUGINS = Path("/usr/share/orthanc/plugins")
START_S = 60


def program(name: str) -> str:
    """Where it is, or nothing; not the one of the same name that pynetdicom lays beside this Python."""
    own = Path(sys.executable).parent
    return shutil.which(name, path=os.pathsep.join(place for place in os.get_exec_path() if Path(place) != own)) or ""


def needs(*programs: str) -> list[pytest.MarkDecorator]:
    """Marks for tests that call `programs`."""
    absent = [f"{name} (Debian package {PACKAGES[name]})" for name in programs if not program(name)]
    reason = f"not installed: {', '.join(absent)}"
    return [pytest.mark.dicom_tools, pytest.mark.skipif(bool(absent), reason=reason)]


def dciodvfy(path: Path) -> list[str]:
    """The errors that David Clunie's validator finds in an object, one a line."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", timeout=300)
    lines = (done.stdout + done.stderr).splitlines()
    assert lines, f"dciodvfy said nothing about {path}"
    return [line for line in lines if line.startswith("Error")]


@dataclass(frozen=True)
class Archive:
    """A running Orthanc."""

    http: int
    dicom: int

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=60) as answer:
            return answer.read()

    def store(self, file: Path) -> str:
        """Send a file by C-STORE (dcmtk); returns Orthanc's id of the instance."""
        before = set(json.loads(self.get("/instances")))
        subprocess.run(
            [program("storescu"), "-R", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom), str(file)],
            check=True,
            timeout=120,
        )
        (new,) = set(json.loads(self.get("/instances"))) - before
        return new

    def fetch(self, instance: str, path: Path) -> Path:
        path.write_bytes(self.get(f"/instances/{instance}/file"))
        return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def orthanc(folder: Path) -> Iterator[Archive]:
    """A PACS on loopback with an empty archive in `folder`, ended with the block."""
    archive = Archive(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": archive.http,
        "DicomPort": archive.dicom,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [str(PLUGINS)] if PLUGINS.is_dir() else [],
        "DicomWeb": {"Enable": True},
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    process = subprocess.Popen(["Orthanc", str(file)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr
        for line in process.stderr:  # ends when Orthanc does
            if "Orthanc has started" in line:
                break
        else:
            raise AssertionError("Orthanc ended before it had started")
        yield archive
    finally:
        process.terminate()
        process.communicate(timeout=START_S)
