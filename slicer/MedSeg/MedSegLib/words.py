"""What went wrong, in plain words, and what to do about it."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM = ("The disk is full.", "Free some space, or choose another folder, and run it again.")
NO_MEMORY = (
    "There was not enough memory.",
    "Close other programs, choose the quality 'fast', or restrict the run to a region; or run it on a machine with "
    "more memory.",
)
NEW_ENVIRONMENT = "Create medseg's environment anew in the panel, or choose another one."
TELL = "Run it again; if it happens again, copy the report and show it to whoever looks after medseg."
BY_SIGNAL: dict[str, tuple[str, str, str]] = {
    "SIGKILL": (
        "killed",
        "The system ended medseg before it was done. Most often that is because there was not enough memory.",
        NO_MEMORY[1],
    ),
    "SIGTERM": ("ended", "medseg was asked to end by another program or by the system.", "Run it again."),
    "SIGINT": ("ended", "medseg was interrupted by Ctrl-C.", "Run it again."),
    "SIGHUP": ("ended", "medseg was ended because the session that it belonged to was closed.", "Run it again."),
    "SIGILL": (
        "processor",
        "The processor does not know an instruction that this build of PyTorch needs.",
        "Create the environment anew with another version of PyTorch, or use a newer machine or a medseg service.",
    ),
    "SIGBUS": (
        "disk-full",
        "medseg lost a file that it was working on: most often the disk was full, or a network drive went away.",
        NO_ROOM[1],
    ),
    "SIGSEGV": ("crashed", "medseg crashed (a library used memory that is not its own).", TELL),
    "SIGABRT": ("crashed", "medseg crashed (a library gave up).", TELL),
    "SIGFPE": ("crashed", "medseg crashed (a library computed what cannot be computed).", TELL),
    "SIGXCPU": ("limit", "A limit of this machine on computing time ended medseg.", "Ask who looks after the machine."),
    "SIGXFSZ": ("disk-full", "A limit of this machine on the size of files ended medseg.", NO_ROOM[1]),
}
"""Code, what happened, and what to do."""
WINDOWS: dict[int, str] = {
    0xC0000005: "SIGSEGV",
    0xC000001D: "SIGILL",
    0xC0000017: "memory",
    0xC000012D: "memory",
    0xC000013A: "SIGINT",
    0xC0000135: "library",
    0xC0000139: "library",
    0xC0000142: "library",
    0xC0000409: "SIGABRT",
}
"""Exit codes by which Windows says the like."""
BY_STATUS: dict[int, tuple[str, str]] = {
    400: ("The service does not accept what was sent.", "Check the inputs and the options."),
    401: (
        "The service does not know this token.",
        "Check the token, or ask the administrator for another one.",
    ),
    403: ("This token may not do that.", "Ask the service's administrator for a token with another role."),
    404: ("The service does not have that.", "Check its address, and choose the model from its list again."),
    408: ("The service waited too long for what was sent.", "Check the network, and run it again."),
    409: ("The service cannot do that with the run as it stands.", "Run it again."),
    413: ("The scan is larger than the service takes.", "Crop it, or ask the service's administrator."),
    421: ("The service does not answer to this name.", "Use the address that its administrator gave you."),
    429: ("The service has had too many wrong tokens from this machine.", "Wait a minute, and check the token."),
    502: ("The service cannot be reached behind its gateway.", "Try again in a minute, or tell its administrator."),
    503: ("The service has too much to do at once.", "Try again in a minute."),
    504: ("The service did not answer its gateway in time.", "Try again in a minute, or tell its administrator."),
    507: ("The service has no room on its disk.", "Try later, or tell its administrator."),
}
ENDED_BY_PYTHON = re.compile(r"^(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b|Refusal)(?::\s*(.*))?$")
REFUSED = re.compile(r"^(?:\w*Error: |error: )?(?P<what>.*?)\.? What to do: (?P<remedy>.*)$", re.DOTALL)
PATH = re.compile(r"^(?P<path>(?:/|[A-Za-z]:[\\/]|\\\\).*?[\\/](?P<name>[^\\/]+?))(?P<rest>: found .*)$", re.DOTALL)
OUT_OF_MEMORY = re.compile(
    r"MemoryError|out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc", re.IGNORECASE
)
OUT_OF_SPACE = re.compile(r"No space left on device|Disk quota exceeded|not enough space on the disk", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """Why something did not come about.

    Attributes:
        what: a sentence for the user, without a traceback.
        remedy: what the user can do; empty where nothing is known.
        code: for programs, as medseg names it (`memory`, `channels`, ...) or one of ours (`no-server`, ...).
        detail: what the program itself said, for the log and for whoever helps; it may name files.
    """

    what: str
    remedy: str = ""
    code: str = "error"
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()


def of_refusal(text: str, code: str = "refused") -> Failure:
    """From a refusal's text, as after `error: ` on the command line and as `reason` in `predict.json`: `WHERE: found A;
    needed B. What to do: C.`; or from any other sentence."""
    found = REFUSED.match(text.strip())
    if not found:
        return Failure(_sentence(_short(text)), "", code, text)
    return Failure(_sentence(_short(found["what"])), _remedy(found["remedy"]), code, text)


def of_error(error: Mapping[str, Any]) -> Failure:
    """From an error as JSON: `{code, where, found, needed, remedy, text}` of the service, of a dry run, of a list."""
    code, text = str(error.get("code") or "error"), str(error.get("text") or "")
    if not (error.get("found") and error.get("needed")):
        return of_refusal(text or "Something went wrong that was not explained.", code)
    what = f"{error.get('where', '')}: found {error['found']}; needed {error['needed']}"
    return Failure(_sentence(_short(what)), _remedy(str(error.get("remedy") or "")), code, text or what)


def of_case(reason: str, code: str) -> Failure:
    """From what `predict.json` says of a case that is not done."""
    if code == "memory" and "What to do:" not in reason:
        return Failure(*NO_MEMORY, code=code, detail=reason)
    if code == "disk-full" and "What to do:" not in reason:
        return Failure(*NO_ROOM, code=code, detail=reason)
    ended = ENDED_BY_PYTHON.match(reason)
    if ended and code in ("", "error"):
        return _of_python(ended, reason)
    return of_refusal(reason or "medseg gave no reason.", code or "error")


def of_http(status: int, answer: Any) -> Failure:
    """From the status of an HTTP answer and its JSON; anything else than a `dict` with `error` is passed over."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and (error.get("text") or error.get("found")):
        failure = of_error(error)
        usual = BY_STATUS.get(status, ("", ""))[1]
        return Failure(failure.what, failure.remedy or usual, failure.code, failure.detail)
    kind = "The service met an error." if status >= 500 else "The service does not accept this."
    what, remedy = BY_STATUS.get(status, (kind, TELL))
    return Failure(what, remedy, f"http-{status}", f"HTTP status {status}")


def of_exception(error: BaseException) -> Failure:
    """From an exception within this program."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return Failure(*NO_ROOM, code="disk-full", detail=detail)
    if isinstance(error, MemoryError):
        return Failure(*NO_MEMORY, code="memory", detail=detail)
    if isinstance(error, OSError) and error.strerror:
        remedy = "Check that the folder is there and may be written to, or choose another."
        return Failure(f"A file or folder cannot be used: {error.strerror}.", remedy, "file", detail)
    return Failure(f"Something went wrong that is not expected ({detail}).", TELL, "error", detail)


def not_started(program: str, error: Exception) -> Failure:
    """A program that the system would not start."""
    detail = f"{program}: {error}"
    if isinstance(error, PermissionError):
        what = "medseg may not be started from here: the system does not permit it."
    elif isinstance(error, FileNotFoundError):
        what = "There is no medseg where the settings say: the environment was moved or removed."
    else:
        what = "The system cannot start medseg."
    return Failure(what, NEW_ENVIRONMENT, "no-program", detail)


def of_end(code: int, tail: Sequence[str]) -> Failure:
    """From how a program ended that was not cancelled.

    Args:
        code: of its exit; -9 or 137: signal 9 ended it; or as Windows has it.
        tail: the last lines that it printed, the newest last.
    """
    detail = "\n".join(tail[-40:])
    text = "\n".join(tail)
    by_signal = of_signal(code, detail)
    if by_signal:
        return by_signal
    for place in range(len(tail) - 1, -1, -1):
        line = tail[place].strip()
        if line.startswith("error: "):
            return of_refusal("\n".join([line, *tail[place + 1 :]])[len("error: ") :])
        if "No module named" in line:
            what = "This environment is not whole: a part of medseg, or of what it needs, is missing."
            return Failure(what, NEW_ENVIRONMENT, "environment", detail)
        if "No such option" in line or "No such command" in line:
            what = "The medseg of this environment is too old for this extension."
            return Failure(what, "Bring it up to date: create the environment anew.", "old", detail)
        ended = ENDED_BY_PYTHON.match(line)
        if ended and "Traceback (most recent call last)" in text:
            return _of_python(ended, detail)
    if OUT_OF_SPACE.search(text):
        return Failure(*NO_ROOM, code="disk-full", detail=detail)
    last = next((line.strip() for line in reversed(tail) if line.strip()), "")
    said = f" It said: {last[:300]}" if last else " It said nothing."
    return Failure(f"The program ended with code {code}.{said}", TELL, "error", detail)


def of_signal(code: int, detail: str = "") -> Failure | None:
    """From an exit code by which the system says that it ended a program; None: it is none of these."""
    if -65 < code < 0 or 128 < code < 193:
        number = -code if code < 0 else code - 128
        name = next((one.name for one in signal.Signals if one.value == number), f"signal {number}")
    else:
        name = WINDOWS.get(code & 0xFFFFFFFF, "")
    if not name:
        return None
    if name == "memory":
        return Failure(*NO_MEMORY, code="memory", detail=detail)
    if name == "library":
        return Failure("A library that medseg needs is missing or damaged.", NEW_ENVIRONMENT, "environment", detail)
    kind, what, remedy = BY_SIGNAL.get(name, ("crashed", f"The system ended medseg ({name}).", TELL))
    return Failure(what, remedy, kind, f"exit code {code} ({name})\n{detail}".strip())


def _of_python(ended: re.Match[str], detail: str) -> Failure:
    """From the last line of a traceback, `KeyError: 'x'`."""
    name, said = ended[1], (ended[2] or "").strip()
    line = ended[0]
    if OUT_OF_MEMORY.search(line):
        return Failure(*NO_MEMORY, code="memory", detail=detail)
    if OUT_OF_SPACE.search(line):
        return Failure(*NO_ROOM, code="disk-full", detail=detail)
    if name == "KeyboardInterrupt":
        kind, what, remedy = BY_SIGNAL["SIGINT"]
        return Failure(what, remedy, kind, detail)
    if name == "Refusal":
        return of_refusal(said)
    shown = f"{name}: {said}"[:300] if said else name
    return Failure(f"medseg met an error that it was not prepared for ({shown}).", TELL, "error", detail)


def _short(text: str) -> str:
    """A refusal whose place is a file of a long path, by the name of the file alone."""
    found = PATH.match(text)
    return f"{found['name']}{found['rest']}" if found else text


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else f"{text}."


def _remedy(text: str) -> str:
    text = _sentence(text)
    return text[:1].upper() + text[1:]
