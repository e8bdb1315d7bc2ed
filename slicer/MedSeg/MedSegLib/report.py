"""What one may show to others of a run that went wrong: all that helps, and nothing of the patient or the user."""

from __future__ import annotations

import getpass
import os
import platform
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from MedSegLib.models import Model
from MedSegLib.runs import Entry
from MedSegLib.work import Order, Outcome

MOST_LINES = 60
"""Of the log, the last."""
HEAD = "MedSeg report. Names, paths and identifiers were taken out; look through it before you pass it on."
USUAL = frozenset(
    """
    home user users root tmp temp var folders private mnt media opt usr bin lib data documents desktop downloads appdata
    local roaming programs windows medseg slicer python result scratch run runs model models nrrd nii gz seg mha dcm
    dicom image images scan scans volume case the and of in to is it not no for with on at or an as by
    """.split()  # noqa: SIM905 - a list of sixty words in quotes would be longer
)
"""Words of titles and folders that tell nothing of anybody, and that sentences need."""
SAID = r"(?:found|needed|line|in|is|and|or|but|not|no|done|of|to|for|with|which|because|it|has|from|as|at|was|were)\b"
"""Words that go on with the sentence after a path; whatever else comes after a comma or a bracket may be its own."""
PATH = (
    r"(?<![\w/\\.>-])(?:~|\.{1,2}|[A-Za-z]:|\\)?[\\/](?=[^\s/])"
    rf"(?:[^:;,'\"()\n]|[,()](?!\s*{SAID})|['\"](?=[\w\\/]))*"
)
MONTH = r"(?!(?:x|of)\b)[^\W\d_]{2,10}\.?"
YEAR = r"(?:1[89]|20)\d\d"
PATTERNS = (
    (re.compile(r"File \"[^\"\n]*[\\/]site-packages[\\/]([^\"\n]+)\""), r"File site-packages/\1"),
    (re.compile(r"\b\w+://[^\s'\"]+"), "<address>"),
    (re.compile(r"\b(token|password|secret|passphrase)([=:]\s*)[^\s,;]+", re.I), r"\1\2<secret>"),
    (re.compile(PATH), "<path>"),
    (re.compile(r"[^\s/'\"]+\.(?:nii|nrrd|nhdr|dcm|mha|mhd|img|hdr|zip|png|jpe?g|tiff?)(?:\.gz)?\b", re.I), "<file>"),
    (re.compile(r"\b\d+(?:\.\d+){3,}\b"), "<identifier>"),
    (re.compile(r"[^\s'\"]*\^[^\s'\"]*"), "<name>"),
    (re.compile(r"[^\s'\"]+@[^\s'\"]+"), "<address>"),
    (
        re.compile(r"(?<![\w:])(?:(?:[\da-f]{1,4}:){1,7}:[\da-f:]*|(?:[\da-f]{1,4}:){5,7}[\da-f]{1,4})(?!\w)", re.I),
        "<address>",
    ),
    (re.compile(r"\b\d{4}([-./])\d{1,2}\1\d{1,2}\b|\b\d{1,2}([-./])\d{1,2}\2(?:\d{4}|\d\d)\b"), "<date>"),
    (
        re.compile(rf"\b\d{{1,2}}[-. ]{{1,2}}{MONTH}[-., ]{{1,2}}{YEAR}\b|\b{MONTH} \d{{1,2}},? {YEAR}\b", re.I),
        "<date>",
    ),
    (
        re.compile(
            r"\b((?:patient|subject|case|accession)[ _]?(?:id|name|number)?|mrn)\b([^\w<]{1,3})"
            rf"(?!{SAID}|\d{{1,3}}(?!\w)|x\b)(?:[^\W_][\w-]*)",
            re.I,
        ),
        r"\1\2<name>",
    ),
    (re.compile(r"(?<![\w<-])(?!\d+(?:x\d+)+\b)(?=[\d_-]*[^\W\d_])[\w-]*\d{4,}[\w-]*"), "<identifier>"),
    (re.compile(r"\d{6,}"), "<number>"),
)
"""What looks like something private, whatever it says, in this order."""
QUOTED = re.compile(r"(?<!\w)(['\"])([^'\"\n]*)\1")
WORD = re.compile(r"[^\W_]+")


def report(
    entry: Entry,
    *,
    versions: Mapping[str, str],
    secrets: Iterable[str] = (),
) -> str:
    """The text of a run of the queue.

    Args:
        versions: of Slicer, of the extension, of medseg, by name.
        secrets: what the caller knows now that must not be in it, besides what the run itself has of that.
    """
    model, order = entry.about.model, entry.about.order
    scrubber = Scrubber([*secrets, *entry.secrets, entry.title, *_of_order(order), *_of_user()], _public(model, order))
    outcome = entry.outcome
    lines = [f"{name}: {version}" for name, version in versions.items()]
    lines += [f"system: {platform.platform()}, {platform.machine()}, {os.cpu_count()} processors, {_memory()}"]
    lines = [scrubber.names(line) for line in lines]
    if model:
        lines.append(_model(model))
    if order:
        lines.append(_asked(order))
    lines.append(f"state: {entry.state}, {entry.progress.percent:.0f} %")
    if outcome:
        lines += [scrubber.all(line) for line in _ended(outcome)]
    log = [f"  {scrubber.all(line)}" for line in list(entry.log)[-MOST_LINES:]]
    return "\n".join([HEAD, "", *lines, "log:", *log, ""])


class Scrubber:
    """Takes private names out of texts.

    Args:
        private: names, titles, paths, tokens.
        public: words that may stay although they are part of those, and within quotes.
    """

    def __init__(self, private: Iterable[str], public: Iterable[str] = ()):
        self._public = {_plain(one).casefold() for one in public}
        kept = self._public | {word.casefold() for one in self._public for word in WORD.findall(one)}
        whole, words = set(), set()
        for one in filter(None, map(_plain, private)):
            if len(one) >= 6 and one.casefold() not in kept | USUAL:
                whole.add(one)
            words |= {word for word in WORD.findall(one) if _tells(word) and word.casefold() not in kept | USUAL}
        whole_words = r"(?<![^\W_]){}(?![^\W_])"
        forms = [(one, "{}") for one in whole] + [(one, whole_words) for one in words]
        forms.sort(key=lambda pair: len(pair[0]), reverse=True)
        texts = [form.format(re.escape(one)) for one, form in forms]
        self._names = re.compile("|".join(texts), re.IGNORECASE) if texts else None

    def names(self, text: str) -> str:
        """Without the names that are known."""
        text = _plain(text)
        return self._names.sub("<private>", text) if self._names else text

    def all(self, text: str) -> str:
        """Without those, and without whatever looks as if it could be one."""
        text = self.names(text)
        for pattern, placeholder in PATTERNS:
            text = pattern.sub(placeholder, text)
        return QUOTED.sub(self._quoted, text)

    def _quoted(self, found: re.Match[str]) -> str:
        return found[0] if found[2].casefold() in self._public or found[2].startswith("<") else "<quoted>"


def _plain(text: str) -> str:
    """Characters that were written as escapes, in JSON, in addresses or by a terminal, and composed alike: a name has
    one form then."""
    text = re.sub(r"(?:%[0-9A-Fa-f]{2})+", lambda found: unquote(found[0]), text)
    text = re.sub(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})", lambda one: chr(int(one[1] or one[2], 16)), text)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\\\\", "\\")
    return unicodedata.normalize("NFC", text)


def _tells(word: str) -> bool:
    return len(word) >= (4 if word.isdigit() else 2)


def _public(model: Model | None, order: Order | None) -> list[str]:
    words = ["CT", "MR", "PT", "US", "T1", "T2", "FLAIR", "PET"]
    if order:
        words += [*order.outputs, order.quality, order.device, *order.labels]
    if model:
        words += [model.name, *model.channels, *model.modalities, *(label.name for label in model.labels)]
    return words


def _of_order(order: Order | None) -> list[str]:
    if not order:
        return []
    paths = [order.folder, order.dicom, *(file for _, file in order.images)]
    named = [part for path in paths if path for part in (str(path), *path.parts, path.name.split(".")[0])]
    return [order.title, order.model, *Path(order.model).parts, *named]


def _of_user() -> list[str]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        user = ""
    return [user, str(Path.home()), Path.home().name, platform.node()]


def _memory() -> str:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no such question
        return "memory not known"
    return f"{total / 2**30:.1f} GiB of memory"


def _model(model: Model) -> str:
    spacing = " x ".join(f"{size:g}" for size in model.spacing_mm) + " mm" if model.spacing_mm else "any spacing"
    size = model.weights_bytes / 1e6
    return f"model: {model.name}, {model.kind}, {len(model.channels)} channels, {spacing}, weights {size:.1f} MB"


def _asked(order: Order) -> str:
    outputs = ", ".join(order.outputs)
    part = "a region" if order.roi else "the whole scan"
    labels = f"{len(order.labels)} labels" if order.labels else "all labels"
    source = "DICOM" if order.dicom else f"{len(order.images)} files"
    return f"asked: {outputs}; quality {order.quality}; {labels} of {part} from {source}; device {order.device}"


def _ended(outcome: Outcome) -> list[str]:
    stages = outcome.facts.get("stages") or []
    told = ", ".join(f"{one.get('name')} {one.get('seconds')} s ({one.get('peak_mib')} MiB)" for one in stages)
    lines = [f"stages: {told}"] if told else []
    plan = outcome.facts.get("memory_plan")
    lines += [f"memory: {plan}"] if plan else []
    failure = outcome.failure
    if failure:
        lines += [f"failure [{failure.code}]: {failure.what}", f"remedy: {failure.remedy}"]
        lines += [f"  {line}" for line in failure.detail.splitlines()]
    return lines
