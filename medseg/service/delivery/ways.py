"""A way for each receiver of a site."""

from __future__ import annotations

from medseg.optional import need
from medseg.refusal import Refusal
from medseg.service.delivery.folder import FolderWay
from medseg.service.delivery.way import Again, Way
from medseg.service.settings.receivers import FolderReceiver, StoreReceiver
from medseg.service.settings.site import Site


class Ways:
    """Made when they are first needed, and kept."""

    def __init__(self, site: Site):
        self._site = site
        self._made: dict[str, Way] = {}

    def to(self, name: str) -> Way:
        """
        Raises:
            Again: there is no such receiver any more, or what its way needs is not there: somebody has to mend that.
        """
        if name not in self._made:
            try:
                self._made[name] = self._make(name)
            except Refusal as refusal:
                raise Again(str(refusal)) from refusal
        return self._made[name]

    def close(self) -> None:
        for way in self._made.values():
            way.close()
        self._made.clear()

    def _make(self, name: str) -> Way:
        receiver = self._site.receivers.get(name)
        if receiver is None:
            raise Again(f"site.yaml has no receiver '{name}' any more")
        if isinstance(receiver, FolderReceiver):
            return FolderWay(self._site.at(receiver.folder))
        if isinstance(receiver, StoreReceiver):
            need("pynetdicom", extra="service", purpose="send results by DICOM")
            from medseg.service.delivery.dicom import StoreWay

            return StoreWay(self._site, receiver)
        need("dicomweb_client", extra="service", purpose="send results by DICOMweb")
        from medseg.service.delivery.web import WebWay

        return WebWay(self._site, receiver)
