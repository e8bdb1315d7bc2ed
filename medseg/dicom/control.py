"""What quality control without truth says of a result, as a part of a measurement report."""

from __future__ import annotations

from typing import Any

from medseg.dicom import objects
from medseg.dicom.concepts import COMMENT, CONTROL, VERDICTS
from medseg.prediction import Prediction


def groups(prediction: Prediction) -> list[Any]:
    """A measurement group (TID 1501) with the verdict as a code, and the reasons as comments; none where nothing was
    judged."""
    import highdicom as hd

    quality = prediction.quality
    if quality is None:
        return []
    name = f"{prediction.case} quality control"
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(objects.uid(prediction, "quality control"), name),
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(objects.concept(CONTROL), objects.concept(VERDICTS[quality.verdict]))
        ],
    )
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    for reason in quality.reasons:
        group[0].ContentSequence.append(hd.sr.TextContentItem(objects.concept(COMMENT), reason, contains))
    return [group]
