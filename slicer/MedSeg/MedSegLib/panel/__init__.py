"""The module's panel: Qt widgets and what they call. Each section of the panel is a file.

Two traps of PythonQt shape the code. Getters of Qt's properties are values there and methods in PySide6, so they are
read by `pieces.read`. Widgets of CTK and Slicer have only their properties, slots and signals, so their properties are
assigned.
"""
