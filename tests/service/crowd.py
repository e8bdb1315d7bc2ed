"""Many senders at once, in a process of its own: `python -m tests.service.crowd PORT ASSOCIATIONS OBJECTS`.

Each sends small objects of a study of its own, by pynetdicom. Prints how many were answered with success.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage

from tests.service.intake_sites import image

ROOT = "1.2.826.0.1.3680043.8.498.99"


def visit(port: int, number: int, objects: int, together: threading.Barrier) -> int:
    entity = AE("CT1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 300
    association = entity.associate("127.0.0.1", port, contexts=[build_context(CTImageStorage)], ae_title="MEDSEG")
    assert association.is_established
    together.wait(timeout=300)
    made = image(1, study=f"{ROOT}.{number}")
    taken = 0
    for n in range(objects):
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.{number}.1.{n}"
        taken += association.send_c_store(made).Status == 0
    association.release()
    return taken


if __name__ == "__main__":
    port, associations, objects = map(int, sys.argv[1:])
    barrier = threading.Barrier(associations)
    with ThreadPoolExecutor(associations) as threads:
        numbers = range(associations)
        print(
            sum(threads.map(visit, [port] * associations, numbers, [objects] * associations, [barrier] * associations))
        )
