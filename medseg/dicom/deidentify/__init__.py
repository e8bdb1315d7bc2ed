"""Taking identities out of DICOM files, by the Basic Application Level Confidentiality Profile of DICOM PS3.15."""
