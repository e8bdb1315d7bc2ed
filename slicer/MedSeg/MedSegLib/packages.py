"""What pip is asked for: medseg from a wheel, a folder or the index, and a PyTorch that suits the machine."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from MedSegLib import pythons
from MedSegLib.errand import Errand, Heard
from MedSegLib.trouble import Trouble

TORCH = "https://download.pytorch.org/whl"
USUAL = "usual"
SPACE_GB = {"cpu": 3.0, "cuda": 9.0}
"""Of the disk, while it is made: packages, and what pip unpacks beside them. 2 and 6 GB stay."""
REQUIREMENT = re.compile(r"medseg(\[[a-z, ]+\])?\s*((==|>=|~=|<=)\s*[\w.+!]+)?", re.IGNORECASE)
SETTING = re.compile(r"(?P<section>\w+)\.(?P<name>[\w-]+)=(?P<value>['\"].*)")
"""A line of `pip config list`."""
LISTED = dict.fromkeys(("PIP_USER", "PIP_GLOBAL", "PIP_SITE", "PIP_QUIET", "PIP_VERBOSE"), "0")
"""So that `pip config list` lists all files: it obeys them, too."""
LAST_LINES = 12
CERTIFICATE = (
    "The network puts a certificate of its own in between: ask your administrator for it, and set PIP_CERT to its file."
)
VERSIONS = (
    "See that the index, or the folder of wheels, has it for this Python: packages come late for the very newest, and "
    "3.11 to 3.13 have all. The network or the mirror may be the reason, too."
)
REACHED = "See that the network, or the mirror that pip is set to, can be reached."
REMEDIES = (
    ("No space left", "Free some room on the disk, or choose a folder on another one."),
    ("CERTIFICATE_VERIFY_FAILED", CERTIFICATE),
    ("ProxyError", "Set HTTPS_PROXY as your administrator says, and start Slicer anew."),
    ("Connection", REACHED),
    ("error sending request", REACHED),
    ("No matching distribution", VERSIONS),
    ("Permission denied", "Choose a folder that you may write to."),
    ("DO NOT MATCH THE HASHES", "A file came damaged, or is another than was meant: try again."),
)  # fmt: skip
"""What to do where a program says the first; the first that is found."""


def nvidia() -> bool:
    """Whether there is an NVIDIA driver."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def torch_choice() -> str:
    """What to suggest as `torch`. The usual index has PyTorch's CUDA build for Linux alone, and for Windows and macOS
    that of the CPU (on a Mac with its GPU)."""
    if sys.platform == "darwin":
        return USUAL
    if nvidia():
        return USUAL if sys.platform.startswith("linux") else "cu128"
    return "cpu"


def space_gb(torch: str) -> float:
    """Room on the disk that is needed, in GB of 10^9 bytes."""
    cuda = torch.startswith("cu") or (torch == USUAL and sys.platform.startswith("linux") and nvidia())
    return SPACE_GB["cuda" if cuda else "cpu"]


def wanted(source: str) -> tuple[str, Path | None]:
    """What pip is asked for, and the file that decides the other packages' versions, where there is one.

    Raises:
        Trouble: it is none of what there may be.
    """
    if REQUIREMENT.fullmatch(source.strip()):  # a folder of that name is meant by its whole path
        return source.strip(), None
    path = Path(source).expanduser()
    if source and path.is_dir():
        if not (path / "pyproject.toml").is_file():
            what = "The folder of the source has no pyproject.toml."
            raise Trouble(what, "Choose medseg's own folder.", "source")
        beside = path / "constraints.txt"
    elif path.suffix == ".whl" and path.is_file():
        beside = path.parent / "constraints.txt"
    else:
        what = f"'{source}' is neither a wheel, nor a folder with medseg's source, nor a name such as medseg==0.1.0."
        raise Trouble(what, "Choose a file that ends in .whl, or a folder, or write medseg.", "source")
    return str(path.absolute()), beside.absolute() if beside.is_file() else None


def install(errand: Errand, python: Path, source: str, *, torch: str, wheels: Path | None, temporary: Path) -> None:
    """Let an environment's pip install medseg.

    Args:
        torch: `USUAL`, or the name of one of PyTorch's own indexes.
        wheels: a folder that everything is taken from, without a network.

    Raises:
        Trouble: pip says that it cannot.
        Stopped.
    """
    package, constraints = wanted(source)
    own = _settings(errand, python)
    pip = [str(python), "-I", "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    pip += ["--disable-pip-version-check", *(["--constraint", str(constraints)] if constraints else [])]
    if wheels is not None:
        pip += ["--no-index", "--find-links", str(wheels.absolute())]
    elif torch != USUAL:
        errand.at(10, f"installing PyTorch ({torch})")
        words = [*pip, "--index-url", f"{TORCH}/{torch}", "torch"]
        what = "pip could not install PyTorch."
        must(errand, words, what, environment=own, heard=_stages(errand, 10), temporary=temporary)
    errand.at(30, "installing medseg")
    words, what = [*pip, package], "pip could not install medseg."
    must(errand, words, what, environment=own, heard=_stages(errand, 30), temporary=temporary)


def must(
    errand: Errand,
    words: Sequence[str],
    what: str,
    *,
    environment: Mapping[str, str] | None = None,
    heard: Heard | None = None,
    temporary: Path | None = None,
) -> str:
    """Standard output of a program that ends well.

    Raises:
        Trouble: it does not; `what` says what this means.
        Stopped.
    """
    ended = errand.run(words, environment=environment or pythons.environment(), heard=heard, temporary=temporary)
    if ended.code == 0:
        return "\n".join(ended.out)
    said = "\n".join((ended.err or ended.out)[-LAST_LINES:])
    raise Trouble(what, _remedy("\n".join((*ended.out, *ended.err))), "install", said)


def silent(text: str) -> None:
    """For programs of which the log needs nothing."""


def _settings(errand: Errand, python: Path) -> dict[str, str]:
    """The variables for an environment's pip. Its files of settings are read as it reads them, and what `PIP_KEPT` has
    goes on as variables; then pip is told to look at no file: there is no other way to leave out the rest, of which a
    `target` or a `prefix` would put packages into another folder."""
    words, what = [str(python), "-I", "-m", "pip", "config", "list"], "The settings of pip (pip.conf) cannot be read."
    said = must(errand, words, what, environment={**pythons.environment(), **LISTED}, heard=silent)
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for line in said.splitlines():
        setting = SETTING.fullmatch(line)
        if setting and setting["section"] in found:
            name = "PIP_" + setting["name"].upper().replace("-", "_")
            found[setting["section"]][name] = " ".join(str(ast.literal_eval(setting["value"])).split("\n"))
    kept = {**found["global"], **found["install"]}
    told = {name: value for name, value in kept.items() if name in pythons.PIP_KEPT}
    return {**told, **pythons.environment(), "PIP_CONFIG_FILE": os.devnull}


def _stages(errand: Errand, percent: float) -> Heard:
    """What pip is at is the stage."""

    def heard(text: str) -> None:
        errand.say(text)
        if text.strip().split(" ", 1)[0] in ("Collecting", "Downloading", "Building", "Installing"):
            errand.at(percent, text.strip()[:60])

    return heard


def _remedy(said: str) -> str:
    fits = (remedy for sign, remedy in REMEDIES if sign.lower() in said.lower())
    return next(fits, "The log shows what it said last; the same button makes the folder anew.")
