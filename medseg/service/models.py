"""Models of an installation, by name and version; one version of each is in use, and an earlier one can be again."""
