"""Words that hospitals use for body parts, contrast phases and kinds of series, in English, German and French."""

from __future__ import annotations

import re
import unicodedata

BODY_PARTS = {
    "abdomen": r"abd|bauch|ventre|liver|leber|foie|hepat|pancrea|pankreas|kidney|niere|\brein|renal|spleen|milz|gastr"
    r"|\bgall|\btap\b|\bcap\b|\btab\b",
    "breast": r"breast|mamm|\bsein",
    "chest": r"chest|thora|\bthx|\blung|pulm|poumon|\btap\b|\bcap\b|\btab\b",
    "head": r"head|brain|skull|cereb|crani|\bcct\b|kopf|schadel|hirn|\btete|crane|cerveau|neuro",
    "heart": r"heart|cardiac|cardio|herz|kardi|coeur|coronary|koronar|coronaire",
    "limb": r"knee|knie|genou|\bhip\b|hufte|hanche|shoulder|schulter|epaule|ankle|sprunggelenk|cheville|elbow"
    r"|ellenbogen|coude|wrist|handgelenk|poignet|\bhand|\bfoot|\bfuss|\bpied|\bleg\b|\bbein|jambe|femur|thigh|extremit",
    "neck": r"neck|\bhals|\bcou\b|larynx|pharynx",
    "pelvis": r"pelvi|becken|bassin|prostat|(?<!gall)bladder|(?<!gallen)blase|vessie|rectum|rektum|uter"
    r"|\btap\b|\bcap\b|\btab\b",
    "spine": r"spine|spinal|wirbel|rachis|vertebr|lumbar|\b[hbl]ws\b|colonne",
}
WHOLE_BODY = r"whole ?body|\bwb\b|ganzkorper|corps entier|head to thigh|(skull|eye|vertex)( base)? to"
OF_TREATMENT = (
    r"(?! ?(op|surg|rt\b|radi|chemo|treat|ther|biops|interv|abl|embol|tace|ta[vc]|stent|trauma|transplant|void))"
)
"""What "pre" and "post" are said of, if not of contrast."""
PHASES = {
    "native": r"(?<!alter)nativ|unenhanced|plain|non ?contrast|non ?enhanced|without (iv|contrast|gd)"
    r"|w ?o (iv|contrast|gd)|ohne (iv|km)|\bo km\b|sans (inj|iv|pdc|contraste|gado)|pre ?contrast"
    rf"|\bpre\b{OF_TREATMENT}|\bpra ?km|\bavant inj|(^| )c-( |$)",
    "arterial": r"\bart\b|arteri|\bhap\b",
    "portal venous": r"portal|\bport ?ven|(?<!intra)veno(us|s|es|u)|veineu|\bven\b|\bpvp?\b",
    "delayed": r"delay|\blate\b(?! ?art)|\bspae?t(e|er|phase)?\b(?! ?art)|tardi|equilib|aquilib|excret|\burogr",
}
LONGEST_S = 3600
"""Later than this, a scan has nothing to do with the injection; one before it counts as nearly a day later."""
SINCE_INJECTION_S = {"arterial": (15, 45), "portal venous": (45, 110), "delayed": (150, LONGEST_S)}
"""Seconds from the beginning of the injection to the scan, of the trunk. What lies between is not told by time."""
CONTRAST = (
    rf"contrast|\bkm\b|\bce\b|\bgd\b|\bgad|\bpost\b{OF_TREATMENT}|enhanced|\binj(?!ur)|\bpdc\b"
    r"|(^| |t1)( ?\+c|c\+)( |$)"
)
NO_AGENT = r"^(no|none|nein|kein\w*|ohne|sans|aucun|nativ\w*|without|n ?a|0)\b"
KINDS = {
    "localiser": (
        r"^localizer$|^scout$",
        r"locali[sz]er|\bloc\b|\bscout|topogram|\btopo\b|surview|\bsurvey|ubersicht|reperage"
        r"|smart ?prep|bolus ?track|test ?bolus|monitoring",
    ),
    "reformatted": (r"mpr|reformat", r"(?<!t1 )\bmpr(?!age)|reformat|\bcpr\b"),
    "projection": (
        r"m(in)?ip$|^projection image$|^mnip|volume ?render|^vrt?$",
        r"\bmi?n?ip\b|\bvrt?\b|volume render",
    ),
    "subtraction": (r"subtract", r"\bsub\b|subtra[ck]t|soustract"),
    "capture": (
        r"^screen ?save|^secondary capture|^screenshot",
        r"screen ?(save|shot)|snapshot|dose (report|info)|dosisprotokoll|patient protocol",
    ),
}
"""Kind of series: what a value of its ImageType looks like, and what its description does."""
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
"""SOP classes that begin so are secondary captures."""


def plain(text: str) -> str:
    """Small letters without accents; signs but + and - become spaces.

    Example:
        >>> plain("Abdomen_PORTALVENÖS 3.0/B30f")
        'abdomen portalvenos 3 0 b30f'
    """
    letters = unicodedata.normalize("NFKD", text.lower())
    bare = (
        "".join(letter for letter in letters if not unicodedata.combining(letter)).replace("ß", "ss").replace("œ", "oe")
    )
    return " ".join(re.sub(r"[^a-z0-9+\-]|-(?=\w)", " ", bare).split())


def found(pattern: str, text: str) -> str:
    """The part of a `plain` text that fits, or ""."""
    match = re.search(pattern, text)
    return match.group().strip() if match else ""


def body_parts(text: str) -> set[str]:
    """Those of `BODY_PARTS` that a `plain` text names; the whole body has each."""
    if found(WHOLE_BODY, text):
        return set(BODY_PARTS)
    return {name for name, pattern in BODY_PARTS.items() if found(pattern, text)}


def phase(description: str, delay_s: float | None) -> tuple[str, str]:
    """Contrast phase and how it is told; both empty where it is not, or where several are named.

    Args:
        description: `plain` text.
        delay_s: from the beginning of the injection to the scan; None if not known.
    """
    named = {name: word for name, pattern in PHASES.items() if (word := found(pattern, description))}
    if len(named) == 1:
        [(name, word)] = named.items()
        return name, f"'{word}'"
    if not named and delay_s is not None:
        for name, (first, last) in SINCE_INJECTION_S.items():
            if first <= delay_s < last:
                return name, f"{delay_s:.0f} s after the injection"
    return "", ""


def contrast(description: str, agent: str, delay_s: float | None) -> tuple[bool | None, str]:
    """Whether there is a contrast agent, None if nothing says so, and how it is told. The description of the series
    goes before the header's agent, which scanners copy into series made before it was given."""
    named, how = phase(description, None)
    if named:
        return named != "native", how
    if found(NO_AGENT, plain(agent)):
        return False, f"agent '{agent}'"
    if agent:
        return True, f"agent '{agent}'"
    word = found(CONTRAST, description)
    if word:
        return True, f"'{word}'"
    if delay_s is not None and 0 < delay_s < LONGEST_S:
        return True, f"{delay_s:.0f} s after the injection"
    return None, "none is stated"
