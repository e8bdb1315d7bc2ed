"""What became of jobs, in a table that adds up: a failure is never counted as done."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medseg import atomic
from medseg.service.journal.job import Job
from medseg.service.journal.states import ENDS, REASONS

CHECK = "check of the series"
"""Of `Job.facts`: what was found when the series was read."""
REPAIRED = "repaired:"
GONE = "results gone"
GOOD = ("done", "repaired")
BAD = ENDS - {"done"}
COLUMNS = ("case", "became", "verdict", "code", "reason", "seconds", "files", "check", "source", "job")


def became(job: Job) -> str:
    """The end of a job in a word: done, repaired (and done), `GONE` (it was done, but its files are not there any
    more), the state of a bad end, or waiting."""
    if job.state == "done":
        if job.kept == "yes" and any(not (Path(job.out) / name).is_file() for name in job.files):
            return GONE
        return "repaired" if REPAIRED in str(job.facts.get(CHECK, "")) else "done"
    return job.state if job.state in ENDS or job.state == "held" else "waiting"


def is_good(job: Job) -> bool:
    return became(job) in GOOD


def counts(jobs: Sequence[Job]) -> list[dict[str, str | int]]:
    """How many jobs ended how, and for what reason: became, code, count. Their sum is the number of jobs."""
    found: Counter[tuple[str, str]] = Counter()
    for job in jobs:
        word = became(job)
        found[word, job.reason_code if word in BAD else ""] += 1
    rows = sorted(found.items(), key=lambda one: (one[0][0] not in GOOD, one[0][0], -one[1]))
    return [{"became": word, "code": code, "count": count} for (word, code), count in rows]


def table(jobs: Sequence[Job]) -> str:
    """`counts` for people; the last line is the sum."""
    lines = [f"{row['count']:7}  {row['became']}{_because(str(row['code']))}" for row in counts(jobs)]
    return "\n".join([*lines, f"{len(jobs):7}  in all"])


def _because(code: str) -> str:
    return f": {code}{f' ({REASONS[code]})' if code in REASONS else ''}" if code else ""


def write(jobs: Sequence[Job], path: Path) -> None:
    """A CSV with a line for each job, in the order of jobs."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for job in jobs:
        source = "; ".join(job.source.values())
        files, check = "; ".join(job.files), job.facts.get(CHECK, "")
        seconds = job.facts.get("seconds", "")
        lines.writerow(
            (job.case, became(job), job.verdict, job.reason_code, job.reason, seconds, files, check, source, job.id)
        )
    with atomic.replacing(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
