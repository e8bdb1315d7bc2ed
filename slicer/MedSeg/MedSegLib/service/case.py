"""One order at a service: sent, watched, fetched. What it puts into the order's folder is there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from MedSegLib import words
from MedSegLib.local import RESULT
from MedSegLib.service.call import Caller
from MedSegLib.service.course import Course
from MedSegLib.service.form import Form, zipped
from MedSegLib.service.job import Job
from MedSegLib.service.trouble import Trouble, strange
from MedSegLib.service.watch import Watch
from MedSegLib.words import Failure
from MedSegLib.work import DONE, Order, Outcome

CANCEL_TRIES = 3
PACKED = "study-to-send.zip"
MEGABYTE = 10**6
CONFLICT = "conflict"
"""Of a job that is not in a state for what was asked: somebody else was first."""


class Case:
    """An order, and the number of the job that it became."""

    def __init__(self, order: Order):
        self._order = order
        self._job, self._new = 0, True
        self._ours = False
        """Whether this run had it begun: somebody else may wait for a job that was there before."""

    def work(self, course: Course, caller: Caller) -> Outcome:
        """
        Raises:
            Trouble: it did not come about.
            Stopped: it was cancelled.
        """
        self._refuse_what_is_not_offered(course)
        with self._tidied():
            watch = Watch(course, caller)
            course.stage("asking the service")
            _refuse_readers(caller)
            form = Form(self._ask(), self._files(course, caller))
            number = watch.patiently(partial(self._sent, course, caller, form))
            (self._order.folder / PACKED).unlink(missing_ok=True)
            job = watch.until_it_ends(watch.patiently(partial(watch.look, number)))
            if not job.good and not self._new and "retry" in job.may:  # an earlier run of it ended badly
                course.say("It ended badly before, and is tried again.")
                self._ours = True
                job = watch.until_it_ends(self._begun_anew(watch, caller))
            if not job.good:
                raise Trouble(job.failure())
            files = {
                name: watch.patiently(partial(self._fetched, course, caller, name, *told))
                for name, told in job.files.items()
            }
            course.check()
            return Outcome(DONE, files=files, facts=dict(job.facts))

    def cancel(self, caller: Caller) -> None:
        """Have the service end what it does for this run alone. Nobody waits for this, or hears how it went."""
        tries = CANCEL_TRIES if self._ours else 0
        while tries and not self._cancelled(caller):
            tries -= 1
            time.sleep(1)

    def _cancelled(self, caller: Caller) -> bool:
        """Whether there is nothing left to try."""
        try:
            caller.json("POST", f"jobs/{self._job}/cancel")
        except Trouble as trouble:
            return not trouble.passing  # it has ended, or is somebody else's, too
        return True

    def _refuse_what_is_not_offered(self, course: Course) -> None:
        if self._order.roi:
            what = "A service segments whole scans, and a region was asked for."
            raise Trouble(Failure(what, "Remove the region, or run it on this computer.", "roi"))
        if self._order.device != "auto":
            course.say(f"The device ({self._order.device}) is the service's to choose.")

    def _ask(self) -> dict[str, Any]:
        """Nothing in it says whose scan it is."""
        order = self._order
        return {
            "model": order.model,
            "outputs": list(order.outputs),
            "quality": order.quality,
            "labels": list(order.labels),
        }

    def _files(self, course: Course, caller: Caller) -> tuple[tuple[str, Path], ...]:
        if self._order.dicom is None:
            return self._order.images
        packed = self._order.folder / PACKED

        def check(done: int, of: int) -> None:
            caller.check()
            course.stage(f"packing {done} of {of} files")

        zipped(self._order.dicom, packed, check)
        return (("study", packed),)

    def _sent(self, course: Course, caller: Caller, form: Form) -> int:
        """Number of the job. What was sent already is the same job."""

        def told(done: int, of: int) -> None:
            digits = 0 if of > 10 * MEGABYTE else 1
            course.stage(f"sending {done / MEGABYTE:.{digits}f} of {of / MEGABYTE:.{digits}f} MB")

        answer = caller.upload("jobs", form, told)
        try:
            self._job, new = int(answer["job"]["id"]), bool(answer["new"])
        except (KeyError, TypeError, ValueError) as error:
            raise strange(caller.door.place, str(answer)) from error
        if not new:
            course.say("The service knows this scan with these settings already: it is the same job.")
        self._new = self._ours = new
        return self._job

    def _begun_anew(self, watch: Watch, caller: Caller) -> Job:
        try:
            return watch.told(caller.json("POST", f"jobs/{self._job}/retry"))
        except Trouble as trouble:
            if not trouble.passing and trouble.failure.code != CONFLICT:
                raise
            self._ours = trouble.passing  # else somebody else has had it begun
        return watch.patiently(partial(watch.look, self._job))

    def _fetched(self, course: Course, caller: Caller, name: str, sha256: str, size: int) -> Path:
        """A file of the result."""
        if size < 0:
            what = f"The service has cleared {name} of the result away."
            raise Trouble(Failure(what, "Run it again.", "results-gone"))
        course.stage(f"fetching {name}", 99)
        final = self._order.folder / RESULT / name
        partial_ = final.with_name(f"{name}.part")
        try:
            final.parent.mkdir(exist_ok=True)
            with caller.answer("GET", f"jobs/{self._job}/files/{name}", whole=False) as answer:
                found = _written(answer.blocks(), partial_, size)
            if found != sha256:
                what = f"{name} did not come whole: its checksum is another one."
                raise Trouble(Failure(what, "Check the network, then run it again.", "damaged"), passing=True)
            caller.check()
            partial_.replace(final)
        except OSError as error:
            raise Trouble(words.of_exception(error)) from error
        return final

    @contextmanager
    def _tidied(self) -> Iterator[None]:
        """What does not end well leaves nothing behind."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                (self._order.folder / PACKED).unlink(missing_ok=True)
            shutil.rmtree(self._order.folder / RESULT, ignore_errors=True)
            raise


def _written(blocks: Iterator[bytes], path: Path, size: int) -> str:
    """Write a file, of no more than `size` bytes; its sha256."""
    digest, come = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            come += len(block)
            if come > size:
                break
            digest.update(block)
            file.write(block)
    return digest.hexdigest() if come <= size else ""


def _refuse_readers(caller: Caller) -> None:
    """Before anything is sent."""
    answer = caller.json("GET", "me")
    role = answer.get("role") if isinstance(answer, dict) else None
    if not isinstance(role, str):
        raise strange(caller.door.place, str(answer))
    if role not in ("submit", "admin"):
        what = f"The token's role at the service is {role}: it may look, but not ask for anything to be done."
        raise Trouble(Failure(what, "Ask for a token of the role submit (`medseg tokens add`).", "not-allowed"))
