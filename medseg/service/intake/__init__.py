"""Ways in: DICOM listener, queries and retrieval, DICOMweb, watched folders."""
