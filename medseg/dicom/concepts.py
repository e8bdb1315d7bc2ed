"""Facts: the codes in which a measurement report says what was measured, how it was summed up, and in which unit."""

from __future__ import annotations

from medseg.labels import Code

VOLUME = Code("118565006", "SCT", "Volume")
CM3 = Code("cm3", "UCUM", "cubic centimeter")
STATISTICS = {
    "mean": Code("373098007", "SCT", "Mean"),
    "sd": Code("386136009", "SCT", "Standard Deviation"),
    "min": Code("255605001", "SCT", "Minimum"),
    "max": Code("56851009", "SCT", "Maximum"),
    "median": Code("373099004", "SCT", "Median"),
}
QUANTITIES = {
    "HU": (Code("112031", "DCM", "Attenuation Coefficient"), Code("[hnsf'U]", "UCUM", "Hounsfield unit")),
    "SUVbw": (
        Code("126401", "DCM", "SUVbw"),
        Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
    ),
    "SUVlbm": (
        Code("126405", "DCM", "SUVlbm(Janma)"),
        Code("g/ml{SUVlbm(Janma)}", "UCUM", "Standardized Uptake Value lean body mass (Janma)"),
    ),
    "SUVbsa": (
        Code("126403", "DCM", "SUVbsa"),
        Code("cm2/ml{SUVbsa}", "UCUM", "Standardized Uptake Value body surface area"),
    ),
    "Bq/ml": (
        Code("110821", "DCM", "Nuclear Medicine Tomographic Activity"),
        Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    ),
    "MR": (Code("110852", "DCM", "MR signal intensity"), Code("1", "UCUM", "no units")),
}
"""By a channel's quantity, unit or modality, whichever it has first (DICOM PS3.16, CID 7469 and 7181)."""
MODALITIES = {
    "CT": (Code("CT", "DCM", "Computed Tomography"), Code("25045-6", "LN", "CT unspecified body region")),
    "MR": (Code("MR", "DCM", "Magnetic Resonance"), Code("25056-3", "LN", "MRI unspecified body region")),
    "PT": (Code("PT", "DCM", "Positron emission tomography"), Code("44136-0", "LN", "PET unspecified body region")),
}
"""The modality itself (CID 29), and the procedure where the header names none (CID 100)."""
ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
PRESENCE, ABSENT = Code("121052", "DCM", "Presence of property"), Code("121054", "DCM", "Absent")
SOURCE = Code("260753009", "SCT", "Source")
CONTROL, COMMENT = Code("QC", "99MEDSEG", "Quality control of the result"), Code("121106", "DCM", "Comment")
VERDICTS = {
    "pass": Code("PASS", "99MEDSEG", "Plausible"),
    "look": Code("LOOK", "99MEDSEG", "To be looked at"),
    "fail": Code("FAIL", "99MEDSEG", "Likely to have failed"),
}
"""What quality control without truth says; there are no public codes for it."""
