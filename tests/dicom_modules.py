"""What the standard wants in CT, MR and PET images beside their place and pixels, for `dicom_sources`."""

from __future__ import annotations

from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

WHEN = "20240102", "101500"
INTERCEPTS = {"ct": -1024, "mr": 0, "pet": 0}


def item(**attributes: Any) -> Dataset:
    """A dataset of attributes; lists of datasets become sequences."""
    made = Dataset()
    for name, value in attributes.items():
        assert tag_for_keyword(name) is not None, name
        setattr(made, name, value)
    return made


def code(value: str, meaning: str, scheme: str = "SCT") -> list[Dataset]:
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


AGENT = {
    "RadionuclideTotalDose": 3.7e8,
    "RadionuclideHalfLife": 6586.2,
    "RadionuclidePositronFraction": 0.967,
    "RadionuclideCodeSequence": code("77004003", "^18^Fluorine"),
    "RadiopharmaceuticalCodeSequence": code("35321007", "Fluorodeoxyglucose F^18^"),
    "RadiopharmaceuticalStartDateTime": "20240102090000",
}
LYING = code("102538003", "Recumbent")
LYING[0].PatientOrientationModifierCodeSequence = code("40199007", "Supine")
SINGLE: dict[str, dict[str, Any]] = {
    "ct": {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientPosition": "HFS",
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "RescaleType": "HU",
        "KVP": 120,
    },
    "mr": {
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "PatientPosition": "HFS",
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "RepetitionTime": 500,
        "EchoTime": 15,
        "EchoTrainLength": 1,
    },
    "pet": {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "Units": "BQML",
        "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"],
        "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START",
        "DecayFactor": 1,
        "CollimatorType": "NONE",
        "RandomsCorrectionMethod": "NONE",
        "FrameReferenceTime": 0,
        "ActualFrameDuration": 60000,
        "RadiopharmaceuticalInformationSequence": [item(RadiopharmaceuticalStartTime="090000", **AGENT)],
        "PatientOrientationCodeSequence": LYING,
        "PatientGantryRelationshipCodeSequence": code("102540008", "headfirst"),
    },
}
"""Of a single slice."""

DIMENSION = "1.2.826.0.1.3680043.8.498.3"
MULTI: dict[str, Any] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    "PatientPosition": "HFS",
    "AcquisitionNumber": 1,
    "AcquisitionDateTime": "".join(WHEN),
    "AcquisitionDuration": 1.0,
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ContentQualification": "RESEARCH",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
    "AcquisitionContextSequence": [],
    "DimensionOrganizationSequence": [item(DimensionOrganizationUID=DIMENSION)],
    "DimensionIndexSequence": [
        item(
            DimensionOrganizationUID=DIMENSION,
            DimensionIndexPointer=0x00209057,
            FunctionalGroupPointer=0x00209111,
        )
    ],
}
"""Of every multi-frame file."""

MULTI_OF: dict[str, dict[str, Any]] = {
    "ct": {"MultienergyCTAcquisition": "NO"},
    "mr": {
        "ResonantNucleus": "1H",
        "KSpaceFiltering": "NONE",
        "MagneticFieldStrength": 1.5,
        "ApplicableSafetyStandardAgency": "IEC",
        "ApplicableSafetyStandardDescription": "",
        "AcquisitionContrast": "T1",
        "ComplexImageComponent": "MAGNITUDE",
        "PulseSequenceName": "SE",
        "MRAcquisitionType": "2D",
        "EchoPulseSequence": "SPIN",
        "MultipleSpinEcho": "NO",
        "MultiPlanarExcitation": "NO",
        "PhaseContrast": "NO",
        "TimeOfFlightContrast": "NO",
        "SteadyStatePulseSequence": "NONE",
        "EchoPlanarPulseSequence": "NO",
        "SaturationRecovery": "NO",
        "SpectrallySelectedSuppression": "NONE",
        "OversamplingPhase": "NONE",
        "GeometryOfKSpaceTraversal": "RECTILINEAR",
        "RectilinearPhaseEncodeReordering": "LINEAR",
        "SegmentedKSpaceTraversal": "SINGLE",
        "NumberOfKSpaceTrajectories": 1,
    },
    "pet": {
        "RadiopharmaceuticalInformationSequence": [
            item(
                RadiopharmaceuticalAgentNumber=1,
                AdministrationRouteCodeSequence=code("47625008", "Intravenous"),
                **AGENT,
            )
        ],
        "CollimatorType": "NONE",
        "CountsSource": "EMISSION",
        "TypeOfDetectorMotion": "STATIONARY",
        "AcquisitionStartCondition": "MANU",
        "AcquisitionTerminationCondition": "TIME",
        "TerminationTimeThreshold": 60.0,
        "DetectorGeometry": "CYLINDRICAL_RING",
        "TransverseDetectorSeparation": 4.0,
        "AxialDetectorDimension": 4.0,
        "CoincidenceWindowWidth": 6.0,
        "EnergyWindowRangeSequence": [item(EnergyWindowLowerLimit=425, EnergyWindowUpperLimit=650)],
        "TableMotion": "STATIC",
        "TimeOfFlightInformationUsed": "FALSE",
        "ViewCodeSequence": code("24422004", "Axial"),
        "DecayCorrected": "NO",
        "AttenuationCorrected": "NO",
        "ScatterCorrected": "NO",
        "DeadTimeCorrected": "NO",
        "GantryMotionCorrected": "NO",
        "PatientMotionCorrected": "NO",
        "CountLossNormalizationCorrected": "NO",
        "RandomsCorrected": "NO",
        "NonUniformRadialSamplingCorrected": "NO",
        "SensitivityCalibrated": "NO",
        "DetectorNormalizationCorrection": "NO",
    },
}
"""Of a multi-frame file of each kind."""

FRAME_TYPE: dict[str, Any] = {
    "FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}
SHARED: dict[str, Any] = {
    "FrameVOILUTSequence": [item(WindowCenter=40, WindowWidth=400)],
    "FrameAnatomySequence": [item(FrameLaterality="U", AnatomicRegionSequence=code("43799004", "Thoracic cavity"))],
}
"""Functional groups of every multi-frame file."""

SHARED_OF: dict[str, dict[str, Any]] = {
    "ct": {
        "CTImageFrameTypeSequence": [item(**FRAME_TYPE)],
        "PixelValueTransformationSequence": [item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")],
        "IrradiationEventIdentificationSequence": [item(IrradiationEventUID="1.2.826.0.1.3680043.8.498.4")],
        "CTAcquisitionTypeSequence": [item(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")],
        "CTAcquisitionDetailsSequence": [
            item(
                RotationDirection="CW",
                RevolutionTime=1.0,
                SingleCollimationWidth=3.0,
                TotalCollimationWidth=3.0,
                TableHeight=100.0,
                GantryDetectorTilt=0.0,
                DataCollectionDiameter=500.0,
            )
        ],
        "CTTableDynamicsSequence": [item(TableSpeed=1.0, TableFeedPerRotation=3.0, SpiralPitchFactor=1.0)],
        "CTPositionSequence": [
            item(
                TablePosition=0.0,
                ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
                DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            )
        ],
        "CTGeometrySequence": [item(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=500.0)],
        "CTReconstructionSequence": [
            item(
                ReconstructionAlgorithm="FILTER_BACK_PROJ",
                ConvolutionKernel="SOFT",
                ConvolutionKernelGroup="SOFT_TISSUE",
                ReconstructionDiameter=500.0,
                ReconstructionPixelSpacing=[0.8, 0.6],
                ReconstructionAngle=360.0,
                ImageFilter="NONE",
            )
        ],
        "CTExposureSequence": [
            item(
                ExposureTimeInms=1000.0,
                XRayTubeCurrentInmA=100.0,
                ExposureInmAs=100.0,
                ExposureModulationType="NONE",
                CTDIvol=1.0,
                CTDIPhantomTypeCodeSequence=code("113691", "IEC Body Dosimetry Phantom", "DCM"),
            )
        ],
        "CTXRayDetailsSequence": [
            item(
                KVP=120,
                FocalSpots=1.0,
                FilterType="NONE",
                FilterMaterial="ALUMINUM",
                CalciumScoringMassFactorDevice=[1.0, 1.0, 1.0],
                EnergyWeightingFactor=1.0,
            )
        ],
    },
    "mr": {
        "MRImageFrameTypeSequence": [item(**FRAME_TYPE, AcquisitionContrast="T1", ComplexImageComponent="MAGNITUDE")],
        "PixelValueTransformationSequence": [item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")],
        "MRTimingAndRelatedParametersSequence": [
            item(
                RepetitionTime=500,
                FlipAngle=90,
                EchoTrainLength=1,
                RFEchoTrainLength=1,
                GradientEchoTrainLength=0,
                SpecificAbsorptionRateSequence=[
                    item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.0)
                ],
                OperatingModeSequence=[
                    item(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL"),
                    item(OperatingModeType="RF", OperatingMode="IEC_NORMAL"),
                    item(OperatingModeType="GRADIENT", OperatingMode="IEC_NORMAL"),
                ],
                GradientOutputType="DB_DT",
                GradientOutput=1.0,
            )
        ],
        "MRFOVGeometrySequence": [
            item(
                InPlanePhaseEncodingDirection="ROW",
                MRAcquisitionFrequencyEncodingSteps=12,
                MRAcquisitionPhaseEncodingStepsInPlane=10,
                MRAcquisitionPhaseEncodingStepsOutOfPlane=1,
                PercentSampling=100,
                PercentPhaseFieldOfView=100,
            )
        ],
        "MREchoSequence": [item(EffectiveEchoTime=15.0)],
        "MRModifierSequence": [
            item(
                InversionRecovery="NO",
                FlowCompensation="NONE",
                Spoiling="NONE",
                T2Preparation="NO",
                SpectrallySelectedExcitation="NONE",
                SpatialPresaturation="NONE",
                PartialFourier="NO",
                ParallelAcquisition="NO",
            )
        ],
        "MRImagingModifierSequence": [
            item(
                MagnetizationTransfer="NONE",
                BloodSignalNulling="NO",
                Tagging="NONE",
                TransmitterFrequency=63.9,
                PixelBandwidth=100.0,
            )
        ],
        "MRReceiveCoilSequence": [
            item(
                ReceiveCoilName="BODY",
                ReceiveCoilManufacturerName="phantoms",
                ReceiveCoilType="BODY",
                QuadratureReceiveCoil="YES",
            )
        ],
        "MRTransmitCoilSequence": [
            item(TransmitCoilName="BODY", TransmitCoilManufacturerName="phantoms", TransmitCoilType="BODY")
        ],
        "MRAveragesSequence": [item(NumberOfAverages=1)],
    },
    "pet": {
        "PETFrameTypeSequence": [item(**FRAME_TYPE)],
        "PixelValueTransformationSequence": [item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")],
        "RadiopharmaceuticalUsageSequence": [item(RadiopharmaceuticalAgentNumber=1)],
        "PETFrameAcquisitionSequence": [
            item(
                TableHeight=100.0,
                GantryDetectorTilt=0.0,
                GantryDetectorSlew=0.0,
                DataCollectionDiameter=500.0,
            )
        ],
        "PETPositionSequence": [
            item(
                TablePosition=0.0,
                ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
                DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            )
        ],
        "PETFrameCorrectionFactorsSequence": [
            item(
                PrimaryPromptsCountsAccumulated=1,
                SliceSensitivityFactor=1.0,
                ScatterFractionFactor=0.0,
                DeadTimeFactor=1.0,
            )
        ],
        "PETReconstructionSequence": [
            item(
                ReconstructionType="3D",
                ReconstructionAlgorithm="REPROJECTION",
                IterativeReconstructionMethod="NO",
                ReconstructionDiameter=500.0,
            )
        ],
    },
}
"""Functional groups of a multi-frame file of each kind."""
