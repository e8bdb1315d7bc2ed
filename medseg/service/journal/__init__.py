"""The journal: a database that says of every job what was asked, where it stands, and how it came there."""

from __future__ import annotations

from pathlib import Path

from medseg.service.journal.arrivals import Arrivals
from medseg.service.journal.audit import Audit
from medseg.service.journal.database import Database
from medseg.service.journal.deliveries import Deliveries
from medseg.service.journal.jobs import Jobs
from medseg.service.journal.keeping import Keeping
from medseg.service.journal.troubles import Troubles


class Journal:
    """Everything on record, from one database.

    Example:
        >>> journal = Journal("jobs.sqlite")                                # doctest: +SKIP
        >>> journal.jobs.counts()["done"]                                   # doctest: +SKIP
        88
    """

    def __init__(self, where: str | Path, *, upgrade: bool = True):
        """See `Database`."""
        self.database = Database(where, upgrade=upgrade)
        self.jobs, self.deliveries, self.audit = (Jobs(self.database), Deliveries(self.database), Audit(self.database))
        self.arrivals = Arrivals(self.database, self.jobs)
        self.keeping, self.troubles = Keeping(self.database), Troubles(self.database)

    def close(self) -> None:
        self.database.close()
