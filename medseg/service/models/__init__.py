"""Models of an installation, by name and version; one version of each is in use, and an earlier one can be again.

<data>/models/<name>/<version>/     what prediction needs of a run, or of the folds of one, and installed.json
<data>/models/<name>/in-use         the version that a bare name stands for
"""

from medseg.service.models.change import install, remove, use
from medseg.service.models.shelf import Broken, Installed, at, broken, called, damaged, find, in_use, listed

__all__ = [
    "Broken",
    "Installed",
    "at",
    "broken",
    "called",
    "damaged",
    "find",
    "in_use",
    "install",
    "listed",
    "remove",
    "use",
]
