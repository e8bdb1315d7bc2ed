"""bandit over all of medseg: what it finds is explained in docs/security.md, line by line of a table."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.tiny import ROOT

ROW = re.compile(r"^\| (medseg/\S+\.py) \| (B\d{3}) \| (.{10,}) \|$", flags=re.MULTILINE)


def test_every_finding_is_explained():
    words = ["-m", "bandit", "--quiet", "--recursive", "--configfile", "pyproject.toml", "--format", "json", "medseg"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    told = json.loads(done.stdout)
    assert told["errors"] == [] and told["metrics"]["_totals"]["loc"] > 10_000
    found = {(one["filename"].removeprefix("./"), one["test_id"]) for one in told["results"]}
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    explained = {(file, finding) for file, finding, _ in ROW.findall(page)}
    assert found - explained == set()
    assert explained - found == set()
