"""A program in the background: what it prints, how it ends, and that nothing of it stays."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from MedSegLib import process, tree, tree_windows
from MedSegLib.process import Child, clean
from tests.slicer.program import alive, marked, until
from tests.tiny import ROOT

LIMIT_S = 2.0
"""What is promised of `cancel`."""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
IGNORES = r"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"deaf\n")
time.sleep(99)
"""
"""A line in one write, because several of them write to one pipe."""
MOVES_AWAY = f"""
import os, subprocess, sys, time
for group in range(2):
    subprocess.Popen([sys.executable, "-c", {IGNORES!r}], start_new_session=True)
os.write(1, b"begun\\n")
time.sleep(60)
"""


def python(script: str, **options) -> Child:
    return Child([sys.executable, "-c", script], **options)


def heard(child: Child, seconds: float = 30) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []

    def over() -> bool:
        lines.extend(child.lines())
        return child.code is not None

    until(over, seconds=seconds)
    return lines


def line_of(child: Child, text: str, times: int = 1) -> None:
    found: list[str] = []

    def said() -> bool:
        found.extend(line for _, line in child.lines())
        return found.count(text) >= times

    until(said, seconds=30)


def seconds_until_gone(child: Child, environment: dict[str, str]) -> float:
    assert alive(environment)
    started = time.monotonic()
    child.cancel()
    assert time.monotonic() - started < 0.1
    until(lambda: not alive(environment), seconds=10)
    gone = time.monotonic() - started
    heard(child)
    return gone


def test_lines_come_whole_from_both_streams_with_the_exit_code():
    script = (
        "import sys; print('eins\\rzw\u00f6lf\\r\\ndrei'); sys.stdout.flush(); sys.stderr.write('vier'); sys.exit(7)"
    )
    child = python(script)
    lines = heard(child)
    assert [text for stream, text in lines if stream == "out"] == ["eins", "zw\u00f6lf", "drei"]
    assert [text for stream, text in lines if stream == "err"] == ["vier"]
    assert child.code == 7 and child.trouble is None


def test_a_letter_that_is_cut_between_two_writes_is_one_letter():
    script = (
        "import os, time; text = '\u00fc\\n'.encode(); os.write(1, text[:1]); time.sleep(0.3); os.write(1, text[1:])"
    )
    assert heard(python(script)) == [("out", "\u00fc")]


def test_what_nobody_fetches_is_held_back_and_not_lost():
    child = python("for number in range(120_000): print(f'{number:0100}')")
    until(lambda: child._size > process.MOST_WAITING)
    time.sleep(0.3)
    assert child._size < process.MOST_WAITING + process.LONGEST_LINE and child.code is None
    assert [int(text) for _, text in heard(child)] == list(range(120_000))


def test_a_line_without_an_end_is_cut():
    child = python("print('x' * 500_000)")
    parts = [text for _, text in heard(child)]
    assert "".join(parts) == "x" * 500_000 and max(map(len, parts)) <= process.LONGEST_LINE


@on_linux
def test_a_program_that_prints_without_end_is_cancelled_all_the_same():
    environment = marked()
    deaf = IGNORES.replace("time.sleep(99)", "while True: print('again' * 100)")
    child = python(deaf, environment=environment)
    until(lambda: child._size > process.MOST_WAITING)
    started = time.monotonic()
    child.cancel()
    until(lambda: not alive(environment), seconds=10)
    assert time.monotonic() - started < LIMIT_S
    assert child._size < process.MOST_WAITING + process.LONGEST_LINE


def test_a_program_that_is_not_there_is_told_by_the_child():
    child = Child([str(Path("/no/such/f\u00f6lder/medseg"))])
    until(lambda: child.code is not None)
    assert child.code == process.NOT_STARTED and isinstance(child.trouble, FileNotFoundError)


def test_a_program_that_cannot_be_one_is_told_by_the_child():
    child = Child(["a\0b"])
    until(lambda: child.code is not None)
    assert isinstance(child.trouble, ValueError)


def test_spaces_and_letters_of_all_kinds_in_paths_and_words(tmp_path):
    folder = tmp_path / "t\u00e4st ordner"
    folder.mkdir()
    script = folder / "mein pr\u00f6gramm.py"
    script.write_text("import sys, tempfile; print(sys.argv[1], tempfile.gettempdir())", encoding="utf-8")
    child = Child([sys.executable, str(script), "ein \u0142 wort"], temporary=folder)
    assert heard(child) == [("out", f"ein \u0142 wort {folder}")]


def test_slicers_variables_for_python_do_not_reach_it(tmp_path):
    home = tmp_path / "Slicer 5.8"
    slicers = os.pathsep.join([str(home / "lib"), "/opt/own/lib"])
    before = {
        "SLICER_HOME": str(home),
        "LD_LIBRARY_PATH": slicers,
        "DYLD_LIBRARY_PATH": str(home / "lib"),
        "PATH": "/bin",
    }
    of_python = {"PYTHONHOME": str(home), "PYTHONPATH": str(home), "PYTHONNOUSERSITE": "1"}
    kept = clean({**before, **of_python, "HTTPS_PROXY": "http://proxy:8080"}, tmp_path)
    assert not set(of_python) & set(kept)
    assert kept["LD_LIBRARY_PATH"] == "/opt/own/lib" and "DYLD_LIBRARY_PATH" not in kept and kept["PATH"] == "/bin"
    assert kept["HTTPS_PROXY"] == "http://proxy:8080" and kept["TMPDIR"] == kept["TEMP"] == str(tmp_path)


def test_a_child_speaks_utf_8_whatever_the_language_of_the_system():
    child = python(
        "import sys; print(sys.flags.utf8_mode, '\u00e4\u0142')", environment={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert heard(child) == [("out", "1 \u00e4\u0142")]


@on_linux
def test_whoever_does_not_listen_is_killed():
    environment = marked()
    child = python(IGNORES, environment=environment)
    line_of(child, "deaf")
    assert seconds_until_gone(child, environment) < LIMIT_S
    assert child.code == -signal.SIGKILL


@on_linux
def test_one_that_listens_may_tidy_up(tmp_path):
    script = f"""
import signal, sys, time
def end(number, frame):
    open({str(tmp_path / "tidy")!r}, "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""
    environment = marked()
    child = python(script, environment=environment)
    line_of(child, "ready")
    assert seconds_until_gone(child, environment) < LIMIT_S
    assert child.code == 143 and (tmp_path / "tidy").exists()


@on_linux
def test_each_is_asked_once(tmp_path):
    """A second signal would end one that is tidying up."""
    script = f"""
import os, signal, time
def heard(number, frame):
    with open({str(tmp_path / "heard")!r}, "a") as file:
        file.write("x")
signal.signal(signal.SIGTERM, heard)
for _ in range(30):
    if not os.fork():
        break
else:
    print("ready", flush=True)
end = time.monotonic() + 60
while not os.path.exists({str(tmp_path / "heard")!r}) and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.4)
"""
    environment = marked()
    child = python(script, environment=environment)
    line_of(child, "ready")
    assert seconds_until_gone(child, environment) < LIMIT_S
    assert len((tmp_path / "heard").read_text()) == 31


@on_linux
def test_grandchildren_that_moved_to_sessions_of_their_own_go_too():
    environment = marked()
    child = python(MOVES_AWAY, environment=environment)
    line_of(child, "deaf", times=2)
    assert len(alive(environment)) == 3
    assert seconds_until_gone(child, environment) < LIMIT_S


@on_linux
def test_those_in_its_group_that_have_no_environment_go_too():
    environment = marked()
    child = python(f"import os, sys; os.execve(sys.executable, [sys.executable, '-c', {IGNORES!r}], {{}})")
    line_of(child, "deaf")
    number = child._tree.process.pid
    child.cancel()
    assert until(lambda: child.code is not None and not child.lines(), seconds=10) < LIMIT_S
    assert not Path(f"/proc/{number}").exists() and not alive(environment)


@on_linux
def test_what_a_program_leaves_behind_does_not_outlive_it():
    environment = marked()
    script = """
import subprocess, sys
subprocess.Popen(["sleep", "99"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
sys.exit(3)
"""
    child = python(script, environment=environment)
    heard(child)
    assert child.code == 3 and not alive(environment)


@on_linux
def test_a_program_that_is_killed_from_outside_takes_its_tree_along():
    environment = marked()
    child = python(MOVES_AWAY, environment=environment)
    line_of(child, "deaf", times=2)
    os.kill(child._tree.process.pid, signal.SIGKILL)
    heard(child)
    assert child.code == -signal.SIGKILL and not alive(environment)


@on_linux
def test_cancelled_before_it_has_begun():
    environment = marked()
    child = python("import time; time.sleep(60)", environment=environment)
    child.cancel()
    assert until(lambda: child.code is not None, seconds=10) < LIMIT_S
    assert not alive(environment)


@on_linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_program_does_not_outlive_slicer(how):
    environment = marked()
    script = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT / "slicer" / "MedSeg")!r})
from MedSegLib.process import Child
child = Child([sys.executable, "-c", {MOVES_AWAY!r}], environment=os.environ)
said = []
for _ in range(3000):
    if said.count("deaf") == 2:
        break
    said += [text for _, text in child.lines()]
    time.sleep(0.01)
print("begun", flush=True)
time.sleep(60)
"""
    slicer = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert slicer.stdout.readline() == "begun\n" and len(alive(environment)) == 4
    slicer.send_signal(how)
    slicer.wait()
    slicer.stdout.close()
    until(lambda: not alive(environment), seconds=10)


@pytest.mark.parametrize("said", ["", "\n", "\n\n", "abc\n", "abc\nended\n"])
def test_a_guard_without_its_mark_touches_nobody_else(said):
    """If Slicer dies in the moment between. What it would kill is printed: nothing here may be killed by mistake."""
    script = 'kill() { echo "$@"; }\n' + tree.GUARD
    words = ["/bin/sh", "-c", script, "guard", "4711"]
    done = subprocess.run(words, input=said, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == ([] if "ended" in said else ["-s TERM -- -4711", "-s KILL -- -4711"])


def lost(guard: subprocess.Popen[bytes]) -> None:
    guard.kill()
    guard.wait()


@on_linux
def test_cancel_works_though_somebody_killed_the_guard():
    environment = marked()
    child = python(MOVES_AWAY, environment=environment)
    line_of(child, "deaf", times=2)
    lost(child._tree._guard)
    assert seconds_until_gone(child, environment) < LIMIT_S
    assert child.code in (-signal.SIGTERM, -signal.SIGKILL) and child._tree._guard.poll() is not None


@on_linux
def test_cancel_works_though_no_guard_can_take_its_place(monkeypatch):
    environment = marked()
    child = python(IGNORES, environment=environment)
    line_of(child, "deaf")
    lost(child._tree._guard)
    monkeypatch.setattr(child._tree, "_new_guard", lambda: (_ for _ in ()).throw(OSError(12, "no memory")))
    assert seconds_until_gone(child, environment) < LIMIT_S


@on_linux
def test_what_a_program_leaves_behind_goes_though_somebody_killed_the_guard():
    environment = marked()
    child = python(MOVES_AWAY, environment=environment)
    line_of(child, "deaf", times=2)
    lost(child._tree._guard)
    os.kill(child._tree.process.pid, signal.SIGKILL)
    heard(child)
    assert child.code == -signal.SIGKILL and not alive(environment)


@on_linux
def test_one_that_escapes_with_the_pipe_does_not_hold_up_the_end():
    """A process with an environment and a session of its own is not found again; the run ends all the same."""
    wait = "import os, time; os.write(1, b'away\\n'); time.sleep(20)"
    away = f"subprocess.Popen([sys.executable, '-c', {wait!r}], env={{}}, start_new_session=True)"
    child = python(f"import subprocess, sys, time; escaped = {away}; print(escaped.pid); time.sleep(60)")
    lines: list[str] = []
    until(lambda: lines.extend(text for _, text in child.lines()) or len(lines) == 2, seconds=30)
    try:
        child.cancel()
        assert until(lambda: child.code is not None, seconds=10) < LIMIT_S + 0.5
    finally:
        os.kill(int(next(line for line in lines if line != "away")), signal.SIGKILL)


@on_linux
def test_it_ends_with_whoever_hears_it():
    environment = marked()
    with pytest.raises(ZeroDivisionError), python(MOVES_AWAY, environment=environment) as child:
        line_of(child, "deaf", times=2)
        raise ZeroDivisionError
    assert not alive(environment)


@on_linux
def test_no_guard_stays():
    child = python("print('done')")
    heard(child)
    assert child._tree._guard.poll() is not None


class Kernel:
    """What a job object needs of Windows, as a list of calls. A system that is not at hand can only be played."""

    def __init__(self, *, assigns: bool = True):
        self.calls: list[tuple[object, ...]] = []
        self.CreateJobObjectW = lambda *_: self.calls.append(("create",)) or 77
        self.SetInformationJobObject = lambda job, kind, limits, size: (
            self.calls.append(("limit", job, kind, limits._obj.basic.flags, size)) or 1
        )
        self.AssignProcessToJobObject = lambda job, process: self.calls.append(("assign", job, process)) or int(assigns)
        self.CloseHandle = lambda job: self.calls.append(("close", job))


def played(monkeypatch, kernel: Kernel) -> None:
    def popen(words, *, creationflags, **options):
        assert creationflags == 0x200 | 0x8000000
        process = popen.real(words, **options)
        process._handle = 5
        return process

    popen.real = subprocess.Popen
    windows = SimpleNamespace(
        WinDLL=lambda name, use_last_error: kernel,
        get_last_error=lambda: 5,
        WinError=lambda number: OSError(number, "no"),
    )
    monkeypatch.setattr(tree_windows, "OF_WINDOWS", windows)
    monkeypatch.setattr(tree_windows.subprocess, "Popen", popen)


def test_a_job_of_windows_holds_the_tree_and_is_closed_once(monkeypatch):
    kernel = Kernel()
    played(monkeypatch, kernel)
    jobbed = tree_windows.Jobbed([sys.executable, "-c", "pass"], dict(os.environ))
    begun = [("create",), ("limit", 77, 9, 0x2000, 144), ("assign", 77, 5)]
    assert kernel.calls == begun and jobbed.wait() == 0
    jobbed.end()
    assert kernel.calls == [*begun, ("close", 77)]
    for stream in (jobbed.process.stdout, jobbed.process.stderr):
        stream.close()


@on_linux
def test_without_its_job_no_process_of_windows_stays(monkeypatch):
    kernel, environment = Kernel(assigns=False), marked()
    played(monkeypatch, kernel)
    with pytest.raises(OSError, match="no"):
        tree_windows.Jobbed([sys.executable, "-c", IGNORES], environment)
    assert kernel.calls[-1] == ("close", 77)
    until(lambda: not alive(environment))


def test_the_structures_are_of_the_size_that_windows_has():
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("of 64 bits")
    assert (ctypes.sizeof(tree_windows.Basic), ctypes.sizeof(tree_windows.Extended)) == (64, 144)
