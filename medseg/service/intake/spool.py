"""Objects on their way from an association to the disk, in bounded memory.

pynetdicom keeps a data set in memory, or in the system's folder for temporary files, without a limit on either. Here it
goes to the folder of what is coming in as its parts arrive.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.filewriter import write_file_meta_info
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dsutils import create_file_meta

from medseg.refusal import Refusal
from medseg.service.intake import head
from medseg.service.intake.store import PART, too_large
from medseg.service.wire import Parts

LOOK_EVERY = 2**24
"""Bytes of an object after which it is looked whether there is still room."""


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        folder: where objects go as they come in.
        largest: bytes of an object.
        full: why there is no room, see `room.Room.full`.
    """

    folder: Path
    largest: int
    full: Callable[[], str]


class Spool(Parts):
    """The data set of a message: that of a C-STORE goes into a file, another stays in memory.

    It is the `data_set` of a message of pynetdicom, which writes each fragment into it. Once something is wrong with an
    object, the rest of it goes nowhere, so that its sender can be told and the objects after it are still taken.
    """

    def __init__(self, message: Any, association: Any, limits: Limits):
        super().__init__(message, association)
        self._message, self._association, self._limits = message, association, limits
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = self._looked = 0
        self._wrong: Refusal | None = None

    def write(self, data: Any) -> int:
        """
        Raises:
            ValueError: a list that is too long; an object is read to its end, however large it is.
        """
        self._size += len(data)
        if not isinstance(self._message, C_STORE_RQ):
            return super().write(data)
        try:
            self._look()
            if self._file and not self._wrong:
                self._file.write(data)
        except OSError as error:
            self._wrong = _no_room(error.strerror or "the disk takes no more")
        except Refusal as refusal:
            self._wrong = refusal
        if self._wrong:
            self.discard()
        return len(data)

    def whole(self) -> Path:
        """The file, once the message is complete.

        Raises:
            Refusal: it could not be taken.
        """
        if self._wrong:
            raise self._wrong
        if not self._file or not self._path:
            raise Refusal("C-STORE", found="no data set", needed="one", remedy=head.REMEDY, code="no-dicom")
        self._file.close()
        return self._path

    def discard(self) -> None:
        """Let go of what there is."""
        if self._file and self._path:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _look(self) -> None:
        if self._wrong:
            return
        if self._size > self._limits.largest:
            raise too_large("C-STORE", self._size, self._limits.largest)
        if not self._file or self._size - self._looked > LOOK_EVERY:
            self._looked = self._size
            if why := self._limits.full():
                raise _no_room(why)
        if not self._file:
            self._begin()

    def _begin(self) -> None:
        """The file, with what stands before a data set (DICOM PS3.10 7.1)."""
        command = self._message.command_set
        uids = [str(command.get(name) or "") for name in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")]
        syntax = [
            one.transfer_syntax[0]
            for one in self._association.accepted_contexts
            if one.context_id == self._message.context_id
        ]
        if not syntax or not all(map(head.is_uid, uids)):
            raise Refusal("C-STORE", found="a command with bad UIDs", needed="UIDs", remedy=head.REMEDY, code="bad-uid")
        self._path = self._limits.folder / f"{uuid.uuid4().hex}{PART}"
        self._file = self._path.open("wb", buffering=0)
        meta = create_file_meta(sop_class_uid=uids[0], sop_instance_uid=uids[1], transfer_syntax=syntax[0])
        start = io.BytesIO(bytes(128) + b"DICM")
        start.seek(0, io.SEEK_END)
        write_file_meta_info(start, meta)
        self._file.write(start.getvalue())


def _no_room(why: str) -> Refusal:
    return Refusal("C-STORE", found=why, needed="room", remedy="make room, then send it again", code="no-room")
