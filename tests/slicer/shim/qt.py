"""Slicer's `qt`: all names of Qt in one module. Here PySide6 has them, in Slicer PythonQt."""

import ctypes
import sys

from PySide6.QtCore import *  # noqa: F403
from PySide6.QtGui import *  # noqa: F403
from PySide6.QtWidgets import *  # noqa: F403

if sys.version_info < (3, 12):
    # PySide6 6.12 gives back one reference to None too many with each call, as if None were immortal; before Python
    # 3.12 it is not, and the interpreter ends when its count is used up.
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40
