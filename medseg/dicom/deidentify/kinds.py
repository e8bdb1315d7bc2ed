"""Which kinds of objects can be cleaned attribute by attribute, and whose pixels may show a name."""

from __future__ import annotations

from typing import Any

from pydicom.uid import UID

ROOT = "1.2.840.10008.5.1.4.1.1."
SCREENS = tuple(
    ROOT + end for end in ("3.1", "6.1", "6.2", "7", "7.1", "7.2", "7.3", "7.4", "77.1.1", "77.1.2", "77.1.4")
)
"""Ultrasound, secondary captures, photographs through endoscopes, microscopes and lenses."""
IMAGES = tuple(
    ROOT + end
    for end in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "2.1", "2.2", "4", "4.1", "4.3", "4.4"),
        *("12.1", "12.1.1", "12.2", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", "14.1", "14.2"),
        *("20", "30", "77.1.5.1", "77.1.5.2", "77.1.5.4", "77.1.5.7", "77.1.5.8", "128", "128.1", "130"),
        *("66.4", "66.7", "481.1", "481.2"),
    )
)
WITHOUT_PIXELS = tuple(ROOT + end for end in ("66.1", "66.3", "66.5", "67", "481.3", "481.5"))
"""Registrations, surfaces, real world values, structure sets, plans."""
CLEANABLE = frozenset({*SCREENS, *IMAGES, *WITHOUT_PIXELS})
SCREEN_WORDS = ("SCREEN", "CAPTURE", "REPORT", "PROT", "DOSE_INFO", "DOSEINFO", "PRINT", "LOCALIZER_SCREEN")
"""In the type of an image: a picture of a screen, a dose sheet or a page of the protocol, whatever its kind says."""
PLACES_OF_OVERLAYS = tuple(0x60000102 + (group << 16) for group in range(0, 0x20, 2))
"""OverlayBitPosition of each overlay; above 0 it lies in the pixels, in bits that the image does not use."""
TAGS: list[str | int] = [
    *PLACES_OF_OVERLAYS,
    "SOPClassUID",
    "BurnedInAnnotation",
    "ImageType",
    "ConversionType",
    "PhotometricInterpretation",
    "Modality",
]


def left_out(sop_class_uid: str) -> str:
    """Why objects of a kind are left out, or nothing if they can be cleaned."""
    if sop_class_uid in CLEANABLE:
        return ""
    name = UID(sop_class_uid).name if sop_class_uid else "no SOP class"
    return f"a kind of object that cannot be cleaned by attributes: {name}"


def writing(dataset: Any) -> str:
    """Why the pixels of an image may show a name, or nothing."""
    burned = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if burned == "YES":
        return "pixels with burned-in text (BurnedInAnnotation YES)"
    if any(dataset[tag].value for tag in PLACES_OF_OVERLAYS if tag in dataset):
        return "an overlay within the pixels, in bits that the image does not use; overlays often show names"
    if burned == "NO" or str(dataset.get("SOPClassUID", "")) in WITHOUT_PIXELS:
        return ""
    if str(dataset.get("SOPClassUID", "")) in SCREENS or dataset.get("ConversionType"):
        return "a kind of picture that often shows names, and does not say that it has none (BurnedInAnnotation)"
    words = dataset.get("ImageType") or ()
    kind = " ".join([words] if isinstance(words, str) else words).upper()
    if any(word in kind for word in SCREEN_WORDS):
        return f"a picture of a screen or a page (image type {kind})"
    colour = str(dataset.get("PhotometricInterpretation") or "").startswith(("RGB", "YBR", "PALETTE"))
    if colour and str(dataset.get("Modality") or "") in ("CT", "MR", "PT", "NM"):
        return "a colour picture of a modality that measures grey values"
    return ""
