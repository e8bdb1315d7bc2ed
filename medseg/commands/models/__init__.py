"""Models of an installation: several versions of each side by side, one of them in use."""
