"""Nothing here imports medseg: as in Slicer, it is a program in an environment of its own (`MEDSEG_PYTHON`)."""
