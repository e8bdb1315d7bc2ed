"""Look at DICOM files before anything is computed from them, and take identities out of them."""
