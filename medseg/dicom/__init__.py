"""What readers and outputs share about DICOM: headers, series, slice geometry, pixels, segmentation objects."""
