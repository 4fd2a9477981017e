"""The systemd units: as tight as they are said to be, adapted to where they are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.commands import here

from hisir_edge.cli.service import UNITS, service_files

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def _installed(tmp_path: Path, gpu: bool, version: int) -> Path:
    unit = service_files(gpu, Path("/bin/true"), version)[0]
    path = tmp_path / Path(unit.path).name.replace("@", "@smt-3")
    path.write_text(unit.text)
    return path


@needs_systemd
@pytest.mark.parametrize(("gpu", "most"), [(False, 2.5), (True, 3.5)])
def test_the_exposure_is_within_its_limit(tmp_path, gpu, most):
    path = _installed(tmp_path, gpu, 252)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level.*: (\d+\.\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= most


@needs_systemd
@pytest.mark.parametrize("number", [4, 5])
def test_systemd_takes_the_units_of_page_and_connections(tmp_path, number):
    unit = service_files(False, Path("/bin/true"), 252, page=True, connection=True)[number]
    path = tmp_path / Path(unit.path).name.replace("@", "@plc")
    path.write_text(unit.text)
    verify = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert path.name not in done.stderr, done.stderr
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(security, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level.*: (\d+\.\d+)", done.stdout)
    assert found and float(found[1]) <= 2.5, done.stdout + done.stderr


@needs_systemd
@pytest.mark.parametrize("gpu", [False, True])
def test_systemd_takes_every_line_of_the_unit(tmp_path, gpu):
    path = _installed(tmp_path, gpu, 252)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert path.name not in done.stderr, done.stderr


def test_reloading_is_waited_for_where_systemd_can():
    new, old = (service_files(False, Path("/x/hisir-edge"), version)[0].text for version in (253, 252))
    assert "Type=notify-reload\n" in new and "ExecReload" not in new
    assert "Type=notify\nExecReload=/bin/sh -c 'kill -HUP ${MAINPID}'\n" in old
    assert "ExecStart=/x/hisir-edge run --config /etc/hisir-edge/%i.toml" in new


def test_both_units_differ_in_what_a_gpu_needs_alone():
    cpu, gpu = (service_files(flag, Path("/bin/true"), 253)[0].text.splitlines() for flag in (False, True))
    wanted = ("Restart", "WatchdogSec", "Type", "User", "NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem")
    for key in wanted:
        assert [line for line in cpu if line.startswith(key)] == [line for line in gpu if line.startswith(key)]
    assert not [line for line in cpu if "nvidia" in line]


def test_the_command_writes_or_prints_them(tmp_path):
    done = here("install-service", "--root", tmp_path, "--line", "smt-3", "--program", "/opt/x/hisir-edge")
    assert done.returncode == 0, done.stderr
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert written == [
        "etc/sysctl.d/60-hisir-edge.conf", "etc/systemd/system/hisir-edge@.service", "etc/sysusers.d/hisir-edge.conf",
        "etc/tmpfiles.d/hisir-edge.conf",
    ]  # fmt: skip
    assert "systemctl enable --now hisir-edge@smt-3.service" in done.stdout
    with_page = here("install-service", "--root", tmp_path / "page", "--program", "/opt/x/hisir-edge", "--view")
    unit = (tmp_path / "page/etc/systemd/system/hisir-edge-view.service").read_text()
    assert "ExecStart=/opt/x/hisir-edge view $VIEW_OPTIONS" in unit and "view.env" in with_page.stdout
    connected = here("install-service", "--root", tmp_path / "c", "--program", "/opt/x/hisir-edge", "--connect")
    unit = (tmp_path / "c/etc/systemd/system/hisir-edge-connect@.service").read_text()
    assert "ExecStart=/opt/x/hisir-edge $CONNECT" in unit and "NAME.connect" in connected.stdout
    shown = here("install-service", "--print", "--gpu", "--program", "/opt/x/hisir-edge")
    assert "# /etc/systemd/system/hisir-edge-gpu@.service" in shown.stdout
    assert "ExecStart=/opt/x/hisir-edge run" in shown.stdout
    assert set(UNITS) == {"cpu", "gpu"}
    (tmp_path / "file").write_text("")
    refused = here("install-service", "--root", tmp_path / "file", "--program", "/x")
    assert refused.returncode == 2
    assert "to write" in refused.stderr
