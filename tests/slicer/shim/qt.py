"""Slicer's `qt`: all names of Qt in one module. Here PySide6 has them, in Slicer PythonQt."""

from PySide6.QtCore import *  # noqa: F403
from PySide6.QtGui import *  # noqa: F403
from PySide6.QtWidgets import *  # noqa: F403
