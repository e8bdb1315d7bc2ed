"""Segments that a person has corrected, as a file that medseg reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.readers import read
from MedSegLib import labelfile
from MedSegLib.labelfile import Segment
from MedSegLib.models import Label
from tests.tiny import AFFINE

ENTRY = "Segmentation category and type~SCT^123037004^Anatomical Structure~{}~{}~Anatomic codes~^^~^^"
KIDNEY = "SCT:64033007"
LABELS = (
    Label(1, "liver", (1, 2, 3), "SCT:10200004", "Liver"),
    Label(2, "kidney left", (4, 5, 6), KIDNEY, "Kidney"),
    Label(3, "kidney right", (7, 8, 9), KIDNEY, "Kidney"),
)


def segment(key: str, name: str, code: str = "^^") -> Segment:
    return Segment(key, name, (0.5, 0.25, 1.0), ENTRY.format(code, "^^"))


def numbered(*places: tuple[slice, int]) -> np.ndarray:
    made = np.zeros((18, 20, 24), np.uint16)
    for place, number in places:
        made[place, 3:7, 5:9] = number
    return made


def test_names_come_before_codes_and_case_does_not_matter() -> None:
    every = [segment("a", "Leber", "SCT^10200004^Liver"), segment("b", "LIVER"), segment("c", "Kidney LEFT")]
    match = labelfile.matched(every, LABELS)
    assert match.numbers == {"b": 1, "c": 2}
    assert (match.unknown, match.missing) == (("Leber",), ("kidney right",))


def test_a_code_that_only_one_label_and_one_segment_have_is_enough() -> None:
    match = labelfile.matched([segment("a", "Leber", "SCT^10200004^Liver"), segment("b", "Niere")], LABELS)
    assert (dict(match.numbers), match.unknown) == ({"a": 1}, ("Niere",))


def test_what_two_labels_or_two_segments_share_is_not_guessed() -> None:
    sided = [segment("a", "Niere", "SCT^64033007^Kidney")]
    assert labelfile.matched(sided, LABELS).unknown == ("Niere",)
    twice = [segment("a", "Leber", "SCT^10200004^Liver"), segment("b", "Leber 2", "SCT^10200004^Liver")]
    assert labelfile.matched(twice, LABELS).unknown == ("Leber", "Leber 2")


def test_apart_they_are_one_label_map_with_their_numbers(tmp_path: Path) -> None:
    maps = [numbered((slice(0, 4), 1)), numbered((slice(6, 9), 300))]
    by_number = {1: segment("a", "liver"), 300: segment("b", "Gefäß\nneu")}
    labelfile.write(tmp_path / "ä.seg.nrrd", maps, by_number, AFFINE)
    volume = read(tmp_path / "ä.seg.nrrd")
    assert (volume.array[0] == (maps[0] + maps[1]).T).all()
    assert np.allclose(volume.affine, AFFINE, rtol=0, atol=1e-12)
    assert volume.source.notes["segments"][1] == "liver"


def test_where_they_overlap_they_lie_in_layers(tmp_path: Path) -> None:
    maps = [numbered((slice(0, 4), 1)), numbered((slice(3, 9), 2)), numbered((slice(12, 15), 5))]
    by_number = {1: segment("a", "whole"), 2: segment("b", "core"), 5: segment("c", "edge")}
    labelfile.write(tmp_path / "x.seg.nrrd", maps, by_number, AFFINE)
    volume = read(tmp_path / "x.seg.nrrd")
    assert volume.channels == ("whole", "core", "edge")
    for channel, one in enumerate(maps):
        assert (volume.array[channel] == (one != 0).T).all()
    header = (tmp_path / "x.seg.nrrd").read_bytes().split(b"\n\n", 1)[0].decode()
    assert "sizes: 2 24 20 18" in header  # the third lies in the first layer
    assert "Segment2_LabelValue:=5" in header
