"""Segmentation objects before judges that nobody here wrote: a validator, a PACS, independent decoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import dicom_sources, judges

KINDS = list(dicom_sources.MAKERS)


@pytest.mark.parametrize("kind", KINDS)
class TestSources:
    pytestmark = judges.needs("dciodvfy")

    def test_the_validator_accepts_the_sources_themselves(self, kind: str, tmp_path: Path) -> None:
        for file in dicom_sources.MAKERS[kind](tmp_path).iterdir():
            assert judges.dciodvfy(file) == []
