"""The supervisor and its child processes: killed, hanging, poisoned, asked to end; and no job is lost or done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medseg.service.journal import Journal
from medseg.service.work import liveness
from medseg.service.work.parameters import Parameters
from medseg.service.work.pool import Child
from medseg.service.work.supervisor import Supervisor
from tests import tiny
from tests.service import site as sites

WORKERS = [("worker", 0)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    tiny.untrained_run(folder)
    return folder


POISON = '''"""Reads scans; one kind of them ends the process."""
import os, pathlib, signal, time
from medseg.readers import nifti
from medseg.readers.nifti import Options
'''
