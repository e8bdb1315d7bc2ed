"""Set medseg up in its own environment, .venv, and run something there. Needs Python 3.11 or newer and no root.

    python3 bootstrap.py demo     train on the sample scans, segment an unseen patient, write a report
    python3 bootstrap.py test     linters, type checker, architecture checks and all tests
    python3 bootstrap.py slicer   what the tests of the 3D Slicer extension need, in .venv-slicer; else they are skipped
    python3 bootstrap.py install  only the environment; then use .venv/bin/medseg (Windows: .venv\\Scripts\\medseg)

Each can be run again: what is installed stays, until pyproject.toml or constraints.txt changes. Words after the first
go to the command that runs: `python3 bootstrap.py test -k geometry`, `python3 bootstrap.py demo --fresh`.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)
TESTERS = min(2, os.cpu_count() or 1)
"""Half of the tests wait for one core, for a disk or for other programs; more than two at once want much memory."""
TOGETHER = ("--numprocesses", str(TESTERS), "--dist", "loadfile", "--no-loadscope-reorder")


def main(arguments):
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this file has not installed the package yet
        sys.exit(f"found Python {sys.version.split()[0]}; medseg needs 3.11 or newer: run this file with that one")
    command, *rest = arguments or ["help"]
    if command == "demo":
        install("")
        return run("medseg", "demo", *rest)
    if command == "test":
        install("test")
        # a part of the tests was asked for: the checks of the whole tree can wait
        failed = [] if rest else [check[0] for check in CHECKS if run(*check)]
        if not rest:  # or else each of them takes all cores, and waits for those that the others hold
            os.environ.setdefault("OMP_NUM_THREADS", str((os.cpu_count() or 1) // TESTERS))
        if run("pytest", *(rest or TOGETHER)):
            failed.append("pytest")
        if failed:
            print(f"failed: {', '.join(failed)}")
        return 1 if failed else 0
    if command == "slicer":
        return slicer()
    if command == "install":
        install(rest[0] if rest else "")
        return 0
    print(__doc__)
    return 0 if command in ("help", "-h", "--help") else 2


def install(extra):
    """Make .venv and install medseg into it, as pinned; nothing to do when that was done before."""
    stamp = ENVIRONMENT / f"installed-{extra or 'base'}"
    wanted = hashlib.sha256(
        (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    ).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {ENVIRONMENT} (a minute or two)", file=sys.stderr, flush=True)
    try:
        venv.create(ENVIRONMENT, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("this Python cannot make environments with pip; on Debian and Ubuntu: apt install python3-venv")
    package = f".[{extra}]" if extra else "."
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", "--editable", package]
    if subprocess.call(pip, cwd=ROOT):
        sys.exit("pip could not install medseg; its message is above")
    stamp.write_text(wanted)


def slicer():
    """Make .venv-slicer, in which the tests of the extension run; see tests/slicer/requirements.txt."""
    wanted = ROOT / "tests" / "slicer" / "requirements.txt"
    folder = ROOT / ".venv-slicer"
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return 0
    print(f"setting up {folder} (a minute or two, 1.5 GB)", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    program = folder / BIN.name / python().name
    if subprocess.call([str(program), "-m", "pip", "install", "--quiet", "-r", str(wanted)], cwd=ROOT):
        print("pip could not install 3D Slicer's core; its message is above", file=sys.stderr)
        return 1
    stamp.write_text(wanted.read_text())
    return 0


def python():
    return BIN / ("python.exe" if os.name == "nt" else "python")


def run(program, *words):
    """Exit code of a program of the environment, run in the project's folder."""
    executable = BIN / (program + (".exe" if os.name == "nt" else ""))
    print(f"$ {program} {' '.join(words)}", file=sys.stderr, flush=True)
    return subprocess.call([str(executable), *words], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
