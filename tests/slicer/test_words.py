"""Failures as a user reads them: what happened, without a traceback, and what to do."""

from __future__ import annotations

import errno

import pytest

from medseg.refusal import Refusal
from MedSegLib import words
from MedSegLib.words import Failure

REFUSAL = Refusal(
    "/tmp/t\u00e4st ordner/scan 1.nii.gz",
    found="voxels of 0 mm",
    needed="real ones",
    remedy="export it again",
    code="spacing",
)
TRACEBACK = ["starting", "Traceback (most recent call last):", '  File "/x/y.py", line 3, in f', "    g()"]


def test_a_refusal_keeps_its_parts_and_loses_the_folder():
    failure = words.of_refusal(str(REFUSAL), REFUSAL.code)
    assert failure.what == "scan 1.nii.gz: found voxels of 0 mm; needed real ones."
    assert failure.remedy == "Export it again." and failure.code == "spacing" and failure.detail == str(REFUSAL)


def test_a_path_of_windows_loses_its_folder_too():
    text = r"C:\Users\x y\scan.nii.gz: found nothing; needed a scan. What to do: send one."
    assert words.of_refusal(text).what == "scan.nii.gz: found nothing; needed a scan."


def test_the_same_refusal_as_json_says_the_same():
    error = {name: getattr(REFUSAL, name) for name in ("code", "where", "found", "needed", "remedy")}
    assert words.of_error({**error, "text": str(REFUSAL)}) == words.of_refusal(str(REFUSAL), REFUSAL.code)


def test_a_line_of_the_command_line():
    failure = words.of_end(2, ["Some warning", f"error: {REFUSAL}"])
    assert failure.what.startswith("scan 1.nii.gz: found") and failure.remedy == "Export it again."


@pytest.mark.parametrize(
    ("code", "kind", "part"),
    [
        (-9, "killed", "not enough memory"),
        (137, "killed", "not enough memory"),
        (-4, "processor", "instruction"),
        (-11, "crashed", "crashed"),
        (139, "crashed", "crashed"),
        (-7, "disk-full", "disk was full"),
        (143, "ended", "asked to end"),
        (130, "ended", "Ctrl-C"),
        (0xC0000005, "crashed", "crashed"),
        (0xC000001D, "processor", "instruction"),
        (0xC0000017, "memory", "not enough memory"),
        (-1073741515, "environment", "library"),
    ],
)
def test_how_the_system_ends_programs(code, kind, part):
    failure = words.of_end(code, ["last words"])
    assert failure.code == kind and part in failure.what and failure.remedy and "last words" in failure.detail


@pytest.mark.parametrize(
    ("last", "code", "part"),
    [
        ("KeyError: 'weights'", "error", "KeyError: 'weights'"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "memory", "not enough memory"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", "memory", "not enough memory"),
        ("MemoryError", "memory", "not enough memory"),
        ("OSError: [Errno 28] No space left on device", "disk-full", "disk is full"),
        ("KeyboardInterrupt", "ended", "interrupted"),
        ("ModuleNotFoundError: No module named 'nibabel'", "environment", "not whole"),
    ],
)
def test_the_last_line_of_a_traceback(last, code, part):
    failure = words.of_end(1, [*TRACEBACK, last])
    assert failure.code == code and part in failure.what and failure.remedy
    assert "Traceback" not in str(failure) and "y.py" not in str(failure) and "Traceback" in failure.detail


def test_a_program_of_another_time():
    failure = words.of_end(2, ["Usage: medseg info [OPTIONS] PATH", "Error: No such option: --json"])
    assert failure.code == "old" and "too old" in failure.what and failure.remedy


def test_an_end_without_a_word():
    failure = words.of_end(5, [])
    assert "code 5" in failure.what and failure.remedy


@pytest.mark.parametrize(
    ("reason", "code", "part"),
    [
        (str(REFUSAL), "spacing", "voxels of 0 mm"),
        ("RuntimeError: can't allocate memory: you tried to allocate 99 bytes", "memory", "not enough memory"),
        ("OSError: [Errno 28] No space left on device: '/x'", "disk-full", "disk is full"),
        ("ValueError: what is that", "error", "ValueError: what is that"),
        ("", "", "no reason"),
    ],
)
def test_a_case_that_is_not_done(reason, code, part):
    failure = words.of_case(reason, code)
    assert part in failure.what and failure.code == (code or "error")


@pytest.mark.parametrize("status", sorted(words.BY_STATUS))
def test_every_status_of_the_service_has_words(status):
    failure = words.of_http(status, None)
    assert failure.what and failure.remedy and failure.code == f"http-{status}" and str(status) not in str(failure)


def test_what_the_service_says_goes_before_what_its_status_means():
    error = {"code": "no-room", "where": "disk", "found": "1 GB", "needed": "2 GB", "remedy": "wait", "text": "..."}
    failure = words.of_http(507, {"error": error})
    assert (failure.what, failure.remedy, failure.code) == ("disk: found 1 GB; needed 2 GB.", "Wait.", "no-room")


@pytest.mark.parametrize("answer", [None, [], "x", {"error": "x"}, {"error": {}}, {"detail": 3}])
def test_answers_that_are_no_errors_of_the_service(answer):
    assert words.of_http(500, answer).what and words.of_http(418, answer).what


def test_errors_of_this_program():
    assert words.of_exception(OSError(errno.ENOSPC, "No space left on device")).code == "disk-full"
    assert words.of_exception(MemoryError()).code == "memory"
    assert "Permission denied" in words.of_exception(PermissionError(13, "Permission denied", "/x")).what
    assert "KeyError: 'x'" in words.of_exception(KeyError("x")).what


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "x"), PermissionError(13, "x"), OSError(8, "Exec format error")]
)
def test_a_program_that_does_not_start(error):
    failure = words.not_started("/env/bin/medseg", error)
    assert failure.code == "no-program" and failure.remedy and "/env" not in str(failure) and "/env" in failure.detail


def test_a_failure_is_one_text():
    assert str(Failure("A.", "B.")) == "A. B." and str(Failure("A.")) == "A."
