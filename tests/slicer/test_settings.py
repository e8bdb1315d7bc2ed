"""What the panel remembers, and what it makes up: settings, guesses of channels, a stand-in for a scan."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.readers import read
from MedSegLib import guess, settings, standin
from MedSegLib.settings import Settings


class Store(dict[str, Any]):
    """A QSettings that gives text back, as one in a file does."""

    def value(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    def setValue(self, key: str, value: Any) -> None:  # Qt's own name
        self[key] = str(value)

    def remove(self, key: str) -> None:
        self.pop(key, None)


CHOSEN = Settings(
    place="service",
    environment="/home/jürgen/meine umgebung",
    address="https://medseg.example",
    token="secret-token",
    keep_token=True,
    accepted=("one",),
    quality="best",
    uncertainty=True,
    table=False,
)


def test_settings_come_back_as_they_were_kept() -> None:
    store = Store()
    settings.write(store, CHOSEN)
    assert settings.read(store) == CHOSEN


def test_the_token_is_kept_only_where_that_was_asked_for() -> None:
    store = Store()
    settings.write(store, CHOSEN)
    settings.write(store, Settings(**{**asdict(CHOSEN), "keep_token": False}))
    assert not any("secret" in text for text in store.values())
    assert settings.read(store).token == ""
    assert settings.read(store).address == CHOSEN.address


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(CHOSEN) and CHOSEN.address in repr(CHOSEN)


@pytest.mark.parametrize("spoilt", ["", "{", "7", '["a"]', "null", "garbage"])
def test_spoilt_settings_are_as_if_never_kept(spoilt: str) -> None:
    store = Store({settings.PREFIX + name: spoilt for name in asdict(Settings()) if name != "accepted"})
    assert settings.read(store) == Settings()


BRATS = ("T1", "T1ce", "T2", "FLAIR")


@pytest.mark.parametrize(
    "names",
    [
        ("t1", "t1ce", "t2", "flair"),
        ("BraTS-00001-t1n", "BraTS-00001-t1c", "BraTS-00001-t2w", "BraTS-00001-t2f"),
        ("5: AX T1", "9: AX T1 POST", "6: AX T2 TSE", "7: AX T2 FLAIR"),
        ("Müller T1w", "Müller T1 Gd", "Müller T2w", "Müller T2w FLAIR"),
    ],
)
def test_channels_are_found_by_what_volumes_are_called(names: tuple[str, ...]) -> None:
    volumes = {str(number): name for number, name in reversed(list(enumerate(names)))}
    assert guess.match(BRATS, volumes) == {channel: str(number) for number, channel in enumerate(BRATS)}


def test_nothing_is_guessed_where_no_name_says_it() -> None:
    assert guess.match(("T1", "FLAIR"), {"a": "Volume_1", "b": "localizer"}) == {}
    assert guess.match(("T2",), {"a": "AX T2 FLAIR", "b": "T1"}) == {}
    assert guess.match(("T1", "T2"), {"a": "T1"}) == {"T1": "a"}
    assert guess.match(("T1 early", "T1 late"), {"a": "T1"}) == {"T1 early": "a"}


def test_a_model_of_one_channel_takes_what_is_shown_or_the_only_one() -> None:
    volumes = {"a": "5: Thorax", "b": "6: Abdomen"}
    assert guess.match(("image",), volumes, "b") == {"image": "b"}
    assert guess.match(("image",), volumes) == {}
    assert guess.match(("image",), {"a": "5: Thorax"}) == {"image": "a"}


def test_a_stand_in_has_the_size_and_the_voxels_of_the_scan_and_no_air(tmp_path: Path) -> None:
    shape, spacing = (130, 121, 90), (0.5, 0.75, 3.0)
    volume = read(standin.write(tmp_path / "für den test.nrrd", shape, spacing))
    sizes = np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert dict(zip(volume.array.shape[-3:], sizes.round(6), strict=True)) == dict(zip(shape, spacing, strict=True))
    assert volume.array.min() >= 0
    assert volume.array.std() > 10


def test_a_stand_in_is_given_up_when_nobody_wants_it(tmp_path: Path) -> None:
    file = standin.write(tmp_path / "large.nrrd", (1000, 1000, 1000), (1, 1, 1), lambda: True)
    assert file.stat().st_size < 1000


def test_all_that_is_kept_is_json(tmp_path: Path) -> None:
    store = Store()
    settings.write(store, CHOSEN)
    assert all(json.loads(text) is not None for text in store.values())
