"""One self-contained HTML page that shows a scan and its labels, in three planes and in 3D.

    write(Path("view.html"), scan, [LabelMap("prediction", volume, table)])

The drawing is NiiVue's, which travels inside the page with the voxels; the page makes no request to anywhere.
"""

from __future__ import annotations

from medseg.viewer.page import LabelMap, write

__all__ = ["LabelMap", "write"]
