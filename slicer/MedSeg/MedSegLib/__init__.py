"""What the MedSeg module of 3D Slicer is made of. Nothing here imports medseg or torch, nor anything that Slicer does
not bring; only `scene`, `dicom` and `panel` know Slicer or Qt. It runs on Python 3.9 and newer.

Data flow one way: `scene` writes files -> an `work.Order` -> `local` or `remote` runs it in the background -> `runs`
hands out what happened -> `scene` reads files.
"""
