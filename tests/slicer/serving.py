"""An installation of the service on this machine, with small models: `medseg serve` and `medseg work` as processes.

`python -m tests.slicer.serving FOLDER` keeps one for whoever has no medseg, until its standard input ends.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from medseg import config
from medseg.engine import checkpoint
from medseg.engine.run import build_network
from medseg.labels import Code, LabelTable
from medseg.service.web import tokens
from tests.judges import free_port
from tests.tiny import ENVIRONMENT, nifti, untrained_run

WAIT_S = 60
TLS = {"certificate": "cert.pem", "key": "key.pem"}
CODES = (Code("10200004", "SCT", "Liver"), Code("78961009", "SCT", "Spleen"))
CLASSES = ("plain", "striped")


@dataclass
class Installation:
    """A site, and its processes.

    Attributes:
        models: name at the service -> run folder.
        tokens: role -> token.
    """

    folder: Path
    models: dict[str, Path]
    tokens: dict[str, str]
    port: int = field(default_factory=free_port)
    scheme: str = "http"
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return self.at(self.port)

    @property
    def authority(self) -> Path:
        """That its certificate is from."""
        return self.folder / "ca.pem"

    def at(self, port: int, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{port}"

    def start(self, program: str) -> None:
        """`serve`, which answers when this comes back, or `work`."""
        command = [sys.executable, "-m", "medseg", program, str(self.folder / "site.yaml")]
        with (self.folder / f"{program}.log").open("a") as log:
            self.running[program] = subprocess.Popen(
                command,
                env=ENVIRONMENT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        if program == "serve":
            out = self.running[program].stdout
            assert out
            said = out.readline()
            assert re.search(r"listening at \S+", said), (self.folder / f"{program}.log").read_text()

    def kill(self, program: str) -> None:
        """With all of its children, as a power cut does."""
        ended = self.running.pop(program)
        os.killpg(ended.pid, signal.SIGKILL)
        ended.wait(timeout=WAIT_S)

    @contextmanager
    def held(self, program: str) -> Iterator[None]:
        """With all of its children it stands still."""
        os.killpg(self.running[program].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.running[program].pid, signal.SIGCONT)


def certificates(folder: Path) -> None:
    """An authority, `ca.pem`, and what it says of 127.0.0.1: `cert.pem` with `key.pem`."""
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    own = "-CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem -subj /CN=service -addext subjectAltName=IP:127.0.0.1"
    for more in ("-keyout ca.key -out ca.pem -subj /CN=authority", f"{own} -addext basicConstraints=critical,CA:FALSE"):
        command = [*made.split(), *more.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=WAIT_S)


@contextmanager
def installation(
    folder: Path, *, programs: tuple[str, ...] = ("serve", "work"), **serve: Any
) -> Iterator[Installation]:
    """
    Args:
        serve: settings of site.yaml; `tls=TLS`: with `certificates`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if "tls" in serve:
        certificates(folder)
    named = {
        "abdomen": _coded(folder / "abdomen"),
        "two": untrained_run(folder / "two", channels=("T1", "FLÄR")).folder,
    }
    named["stripes"] = _classifier(folder / "stripes")
    made = Installation(folder, named, dict.fromkeys(("read", "submit", "admin"), ""))
    site = {
        "serve": {"port": made.port, **serve},
        "keep": {"free_gib": 0},
        "work": {"workers": 1, "device": "cpu", "threads": 1, "drain_s": 0},
        "routes": [{"name": name, "model": name, "outputs": ["nifti"]} for name in named],
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
    made.tokens = {role: tokens.add(folder / "tokens.yaml", role, role) for role in made.tokens}  # type: ignore[arg-type]
    made.scheme = "https" if "tls" in serve else "http"
    try:
        for program in programs:
            made.start(program)
        yield made
    finally:
        for program in tuple(made.running):
            made.kill(program)


def noise(path: Path, size: int = 24, seed: int = 0) -> Path:
    """A scan. Of 24 voxels a side it takes a moment, of 200 much longer than a test waits."""
    return nifti(path, np.random.default_rng(seed).normal(0, 40, (size, size, size)).astype(np.int16))


def _coded(folder: Path) -> Path:
    """Segments liver and spleen, or what an untrained network takes for them."""
    run = untrained_run(folder, labels={"liver": 1, "spleen": 2}).folder
    table = LabelTable.of({"liver": 1, "spleen": 2})
    labels = tuple(replace(label, code=code) for label, code in zip(table.labels, CODES, strict=True))
    _write(run / "labels.json", replace(table, labels=labels).to_json())
    return run


def _classifier(folder: Path) -> Path:
    """Of whole images."""
    run = untrained_run(folder, changes=("model={name: video_resnet, kind: r3d_18, width: 4}",))
    table = LabelTable.classes({name: number for number, name in enumerate(CLASSES)})
    _write(run.folder / "labels.json", table.to_json())
    made = config.load(run.folder / "recipe.yaml")
    plan = run.plan
    torch.manual_seed(0)
    network = build_network(made, plan, table)
    checkpoint.save(run.folder / "weights.safetensors", network.state_dict(), {"epoch": 1, "auroc": 0.5})
    return run.folder


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    with installation(Path(sys.argv[1])) as here:
        noise(here.folder / "scan.nii.gz", 64)
        told = {"address": here.address, "token": here.tokens["submit"], "scan": str(here.folder / "scan.nii.gz")}
        print(json.dumps(told), flush=True)
        sys.stdin.read()
