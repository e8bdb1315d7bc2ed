"""Orders worked on by medseg on this machine: `medseg predict` as a child process."""

from __future__ import annotations

import json
import shutil
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MedSegLib import words
from MedSegLib.background import Background, Talk
from MedSegLib.process import Child
from MedSegLib.words import Failure
from MedSegLib.work import DONE, FAILED, Order, Outcome

TAIL = 60
"""Lines that are kept to say why the program ended."""
LONGEST_ANSWER = 1 << 26
"""Characters; a program that says more than that to a question is taken for one gone wrong."""
BLOCK, PIECE = 1 << 20, 1 << 24
"""Bytes of a result that are read, and unpacked, in one go: threads of Slicer get few turns."""
RESULT, SCRATCH = "result", "scratch"
"""Within an order's folder."""
STAGES = {
    "read": "reading the scan",
    "plan": "planning the memory",
    "prepare": "preparing the scan",
    "network": "segmenting",
    "clean-up": "cleaning up",
    "gate": "limiting to flagged slices",
    "judge": "judging the result",
    "write": "writing the result",
    "measure": "measuring",
    "done": "fetching the result",
}
"""Stages as the program calls them, and as people do."""


class Local:
    """medseg in an environment of its own.

    Args:
        program: words that start it, such as `["/env/bin/medseg"]`.
        environment: of variables, as before Slicer changed them; None: this process's own, see `process.clean`.
    """

    def __init__(self, program: Sequence[str], *, environment: Mapping[str, str] | None = None):
        self._program, self._environment = tuple(program), environment

    def start(self, order: Order) -> Background:
        """Segment; files come into a folder within the order's. Of a run that fails or is cancelled nothing stays."""
        return Background(lambda talk: self._predict(order, talk))

    def ask(self, asked: Sequence[str]) -> Background:
        """Run `medseg ASKED...`; the JSON of its standard output is `facts["answer"]` of the outcome."""
        return Background(lambda talk: self._answer(asked, talk))

    def _predict(self, order: Order, talk: Talk) -> Outcome:
        result, scratch = order.folder / RESULT, order.folder / SCRATCH
        outcome = Outcome(FAILED)
        try:
            for folder in (result, scratch):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            talk.progress(0, "starting medseg")
            heard = self._run(predict_words(order, result), talk, temporary=scratch)
            outcome = _of_record(result) or heard.outcome()
            return outcome
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if outcome.state != DONE or talk.stopped.is_set():
                shutil.rmtree(result, ignore_errors=True)

    def _answer(self, asked: Sequence[str], talk: Talk) -> Outcome:
        heard = self._run(asked, talk)
        if heard.code in (0, 1):  # 1: something that was asked about will not do, and the answer says what
            try:
                return Outcome(DONE, facts={"answer": json.loads("".join(heard.out))})
            except ValueError:
                pass
        return heard.outcome()

    def _run(self, asked: Sequence[str], talk: Talk, *, temporary: Path | None = None) -> _Heard:
        """Run the program to its end, and tell of what it tells."""
        heard = _Heard(self._program[0])
        with Child([*self._program, *asked], environment=self._environment, temporary=temporary) as child:
            for stream, text in talk.hear(child):
                said = _json(text) if stream == "err" else {}
                if "stage" in said:
                    _tell(said, talk)
                    continue
                text = str(said.get("message", text))
                heard.keep(stream, text)
                if stream == "err":
                    talk.line(text)
        heard.code, heard.trouble = child.code, child.trouble
        return heard


@dataclass
class _Heard:
    """What a program said, and how it ended."""

    program: str
    out: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    size: int = 0
    code: int | None = None
    trouble: Exception | None = None

    def keep(self, stream: str, text: str) -> None:
        if stream == "err":
            self.tail.append(text)
        elif self.size < LONGEST_ANSWER:
            self.size += len(text)
            self.out.append(text)

    def outcome(self) -> Outcome:
        """Of a program that did not do what was asked."""
        if self.trouble:
            return Outcome(FAILED, failure=words.not_started(self.program, self.trouble))
        if self.code:
            return Outcome(FAILED, failure=words.of_end(self.code, list(self.tail)))
        what = "medseg ended without an answer that this extension understands."
        return Outcome(FAILED, failure=Failure(what, words.NEW_ENVIRONMENT, "answer", "\n".join(self.tail)))


def predict_words(order: Order, result: Path) -> list[str]:
    """The words after `medseg` that work on an order into a folder."""
    named = [f"--channel={name}={file}" for name, file in order.images]
    options = [f"--output={one}" for one in order.outputs]
    options += [f"--quality={order.quality}", f"--device={order.device}", "--progress=json"]
    if order.labels:
        options.append(f"--labels={','.join(order.labels)}")
    if order.roi:
        options.append(f"--roi={order.roi}")
    paths = [order.model, *([str(order.dicom)] if order.dicom else []), str(result)]
    return ["predict", *named, *options, "--", *paths]


def _json(text: str) -> dict[str, Any]:
    """An object for programs; empty for a line for people."""
    if not text.startswith("{"):
        return {}
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _tell(step: dict[str, Any], talk: Talk) -> None:
    share = step["done"] / step["total"] if step.get("total") else 0.0
    percent = 100 * (step.get("number", 1) - 1 + share) / max(1, step.get("cases", 1))
    stage = STAGES.get(step["stage"], step["stage"])
    talk.progress(percent, stage, step.get("seconds_left"))


def _of_record(result: Path) -> Outcome | None:
    """What `predict.json` says became of the cases; None where it says nothing of use."""
    try:
        record = json.loads((result / "predict.json").read_text(encoding="utf-8"))
        cases = record["cases"]
    except (OSError, ValueError, KeyError):
        return None
    bad = next((case for case in cases if case["state"] != "done"), None)
    if bad:
        return None if bad["state"] == "cancelled" else _refused(bad)
    files = {name: result / name for case in cases for name in case["files"]}
    if not files:
        return None
    damaged = next((file for file in files.values() if not _whole(file)), None)
    if damaged:
        what = f"The result {damaged.name} is cut short or damaged."
        return Outcome(FAILED, failure=Failure(what, "Look whether the disk has room, and run it again.", "result"))
    facts = {**cases[0]["facts"], "seconds": cases[0]["seconds"], "stages": cases[0]["stages"]}
    return Outcome(DONE, files, facts)


def _whole(path: Path) -> bool:
    """Whether all that is packed in a file of voxels can be unpacked. Of a segmentation that is cut short, Slicer's own
    reader would end Slicer; of a volume, it would show what is left. Not looked into at a service: it has checksums."""
    unpack = zlib.decompressobj(wbits=31)  # gzip
    with path.open("rb") as file:
        if path.suffix == ".nrrd":  # its voxels come after an empty line
            while file.readline(BLOCK) not in (b"\n", b""):
                pass
        elif path.suffix != ".gz":
            return True
        try:
            while block := file.read(BLOCK):
                while block:
                    unpack = zlib.decompressobj(wbits=31) if unpack.eof else unpack
                    unpack.decompress(block, PIECE)
                    block = unpack.unconsumed_tail or unpack.unused_data
        except zlib.error:
            return False
    return unpack.eof


def _refused(case: dict[str, Any]) -> Outcome:
    facts = {"seconds": case["seconds"], "stages": case["stages"]}
    return Outcome(FAILED, facts=facts, failure=words.of_case(case["reason"], case["code"]))
