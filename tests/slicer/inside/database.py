"""What ctkDICOMDatabase is for Slicer, over a folder of real files: its calls that the extension makes."""

from __future__ import annotations

from pathlib import Path

import pydicom


class Database:
    """Files are looked into once."""

    def __init__(self, folder: Path):
        self._heads = {
            str(path): pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.rglob("*.dcm"))
        }

    def _having(self, wanted: str, **values: str) -> list[str]:
        fitting = [one for one in self._heads.values() if all(one[name].value == v for name, v in values.items())]
        return sorted({str(one[wanted].value) for one in fitting})

    def patients(self) -> list[str]:
        return self._having("PatientID")  # real ones are numbers of the database's own

    def nameForPatient(self, patient: str) -> str:
        return str(next(head.PatientName for head in self._heads.values() if patient == head.PatientID))

    def studiesForPatient(self, patient: str) -> list[str]:
        return self._having("StudyInstanceUID", PatientID=patient)

    def seriesForStudy(self, study: str) -> list[str]:
        return self._having("SeriesInstanceUID", StudyInstanceUID=study)

    def filesForSeries(self, series: str) -> list[str]:
        return [path for path, head in self._heads.items() if head.SeriesInstanceUID == series]

    def fileForInstance(self, uid: str) -> str:
        return next((path for path, head in self._heads.items() if head.SOPInstanceUID == uid), "")

    def fileValue(self, path: str, tag: str) -> str:
        group, element = (int(part, 16) for part in tag.split(","))
        found = self._heads[path].get((group, element))
        return "" if found is None else str(found.value)
