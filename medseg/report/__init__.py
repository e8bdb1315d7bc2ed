"""One self-contained HTML page about a run: what was measured, how it was trained, and what it looks like.

    write(Path("report.html"), Report(title="Liver, 3D U-Net", overlays=[drawn(Overlay(...))]))

The page makes no request to anywhere: styles, script and pictures are inside it, so that it can be opened from a disk,
sent by mail and printed. The same `Report` gives the same bytes. `pdf` makes sheets of paper about one result.
"""

from __future__ import annotations

from medseg.report.cases import Drawn, drawn
from medseg.report.page import Report, write
from medseg.report.pictures import strip
from medseg.report.sheet import Sheet, pages, pdf
from medseg.report.slices import Overlay, overlay, percentiles

__all__ = ["Drawn", "Overlay", "Report", "Sheet", "drawn", "overlay", "pages", "pdf", "percentiles", "strip", "write"]
