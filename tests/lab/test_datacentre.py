"""The whole lab: up twice is up once, down leaves nothing, and either repairs a crash in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from migrationhub.lab import keeper, kinds
from migrationhub.lab.datacentre import Datacentre, register_clone
from migrationhub.lab.nameserver import Nameserver
from migrationhub.lab.network import namespaces
from migrationhub.lab.sources import SOURCES
from migrationhub.lab.state import REPOSITORY, Lab, LabProblem, known_labs
from tests.patience import wait_until


def traces(lab, tag):
    """Whatever of a lab is on this machine: processes, mounts, loop devices, namespaces, links, groups, files."""
    found = [name for name in namespaces() if name.startswith((f"{tag}.", f"{tag}-"))]
    found += [path.name for path in Path("/sys/class/net").glob(f"{tag}-*")]
    found += [str(path / "migrationhub-lab" / tag) for path in keeper.cgroup_mounts()]
    found = [name for name in found if not name.startswith("/") or Path(name).exists()]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(lab.dir) in line]
    found += [str(path) for path in Path("/run/systemd/nspawn").rglob(f"{tag}-*")]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout.splitlines()
    found += [line for line in loops if str(lab.dir) in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(lab.dir) in words or f"--machine={tag}-" in words or f"--lab {lab.name} " in words:
            found.append(words)
    found += [str(one.dir) for one in known_labs() if one.dir == lab.dir]
    return found + ([str(lab.dir)] if lab.dir.exists() else [])


@pytest.fixture
def killed_up(spare_lab):
    """Run `lab up` and kill it as soon as `when` is true, a callable."""

    def run(when, *arguments):
        environment = os.environ | {"MIGRATIONHUB_VAR": str(spare_lab.var)}
        environment["DJANGO_SETTINGS_MODULE"] = "migrationhub.settings"  # the tests' own has another directory
        argv = [sys.executable, str(REPOSITORY / "manage.py"), "lab", "--lab", spare_lab.name, "up", *arguments]
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: when() or process.poll() is not None)
        finally:
            process.kill()
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors.decode()

    return run


@pytest.mark.nspawn
def test_up_twice_then_down_leaves_nothing(spare_lab):
    centre = Datacentre(spare_lab)
    tag = spare_lab.tag
    first = centre.up("nspawn", sources=["wiki"])
    backend = centre.backend()
    boot = backend.execute("wiki", "cat /proc/sys/kernel/random/boot_id").out
    assert centre.up(sources=["wiki"]) == first
    assert backend.execute("wiki", "cat /proc/sys/kernel/random/boot_id").out == boot
    wiki = first["sources"][0]
    assert wiki["host_keys"] == sorted(wiki["host_keys"])
    assert Nameserver(spare_lab).look_up("production", "wiki") == [wiki["address"]]
    wait_until(lambda: backend.execute("wiki", "systemctl is-active nginx").rc == 0)
    with urllib.request.urlopen(f"http://{wiki['address']}/", timeout=30) as page:
        assert b"<h1>Wiki</h1>" in page.read()
    with pytest.raises(LabProblem, match="is up with nspawn hosts"):
        centre.up("process")
    assert traces(spare_lab, tag)
    centre.down()
    assert traces(spare_lab, tag) == []
    centre.down()
    assert traces(spare_lab, tag) == []


@pytest.mark.nspawn
def test_up_starts_again_what_crashed_but_not_what_was_switched_off(spare_lab):
    centre = Datacentre(spare_lab)
    centre.up("nspawn", sources=["wiki"])
    backend, vme = centre.backend(), spare_lab.dir / "vme" / "stand-in.lock"
    for lock in (spare_lab.dir / "hosts/wiki/lock", vme, spare_lab.dir / "dns/named.lock"):
        os.kill(keeper.holder(lock), signal.SIGKILL)
        wait_until(lambda lock=lock: keeper.holder(lock) is None)
    status = centre.status()
    assert (status["hosts"], status["dns"], status["vme"]) == ({"wiki": "off"}, False, False)
    centre.up(sources=["wiki"])
    status = centre.status()
    assert (status["hosts"], status["dns"], status["vme"]) == ({"wiki": "on"}, True, True)
    backend.stop("wiki")  # as the cutover does
    centre.up(sources=["wiki"])
    assert backend.power("wiki") == "off"


@pytest.mark.nspawn
def test_a_killed_up_is_repaired_by_up(spare_lab, killed_up):
    router = f"/run/netns/{spare_lab.tag}-router"
    killed_up(Path(router).exists, "--kind", "nspawn", "--source", "wiki")
    killed_up((spare_lab.dir / "hosts" / ".new-wiki").exists, "--kind", "nspawn", "--source", "wiki")
    killed_up((spare_lab.dir / "hosts" / "wiki").exists, "--kind", "nspawn", "--source", "wiki")
    centre = Datacentre(spare_lab)
    centre.up(sources=["wiki"])
    assert centre.status()["hosts"] == {"wiki": "on"}
    assert not list((spare_lab.dir / "hosts").glob(".new-*"))


@pytest.mark.nspawn
def test_a_killed_up_is_removed_by_down(spare_lab, killed_up):
    tag = spare_lab.tag
    mounted = spare_lab.dir / "hosts" / ".new-files" / "root" / "usr"
    killed_up(mounted.exists, "--kind", "nspawn", "--source", "files")
    assert any(str(spare_lab.dir) in line for line in traces(spare_lab, tag))
    Datacentre(spare_lab).down()
    assert traces(spare_lab, tag) == []


@pytest.mark.nspawn
def test_down_ends_guests_whose_directory_was_deleted(spare_lab):
    tag = spare_lab.tag
    Datacentre(spare_lab).up("nspawn", sources=["wiki"])
    while spare_lab.dir.exists():  # its guests still write
        shutil.rmtree(spare_lab.dir, ignore_errors=True)
    assert traces(spare_lab, tag)
    lab = Lab(spare_lab.name, spare_lab.var)
    assert lab.tag == tag
    Datacentre(lab).down()
    assert traces(lab, tag) == []


@pytest.mark.lab
def test_process_hosts_have_the_same_lab_around_them(spare_lab, monkeypatch):
    centre = Datacentre(spare_lab)
    tag = spare_lab.tag
    try:
        found = centre.up("process", sources=["wiki"])
        assert found["kind"] == "process"
        assert found["why"] == "as asked for"
        assert centre.status()["hosts"] == {"wiki": "on"}
        assert found["sources"][0]["manager"] == "supervisord"
        monkeypatch.setattr("migrationhub.lab.datacentre.Lab", lambda: spare_lab)
        register_clone("wiki-new", "127.9.9.9")
        server = Nameserver(spare_lab, "process")
        assert server.look_up("migration", "wiki") == ["127.9.9.9"]
        assert server.look_up("production", "wiki") == [found["sources"][0]["address"]]
        centre.backend().stop("wiki")
        centre.up(sources=["wiki"])
        assert centre.status()["hosts"] == {"wiki": "off"}
    finally:
        centre.down()
    assert traces(spare_lab, tag) == []


@pytest.mark.nspawn
def test_clones_are_entered_under_the_record_of_their_source(nspawn_lab):
    lab, server = nspawn_lab.lab, nspawn_lab.nameserver
    for name, record in (("shop-db", "db"), ("shop-web-2", "web"), ("other", "other")):
        before = server.look_up("production", record)
        register_clone(name, "10.9.8.7", lab)
        assert server.look_up("migration", record) == ["10.9.8.7"]
        assert server.look_up("production", record) == before != ["10.9.8.7"]


@pytest.mark.nspawn
def test_kind_is_found_by_trying(spare_lab, monkeypatch):
    assert kinds.choose(spare_lab) == ("nspawn", "a trial of systemd-nspawn in a network namespace worked")
    assert traces(spare_lab, spare_lab.tag) == [str(spare_lab.dir)] * 2  # its number and directory alone
    monkeypatch.setattr(kinds, "PATHS", "/nonexistent")
    kind, why = kinds.choose(spare_lab)
    assert kind == "process"
    assert "not installed: systemd-nspawn, debootstrap" in why
    with pytest.raises(LabProblem, match="not installed") as raised:
        kinds.choose(spare_lab, "nspawn")
    assert "--kind process" in raised.value.act


def test_without_root_hosts_are_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(kinds.os, "geteuid", lambda: 1000)
    assert kinds.choose(Lab("nobody", tmp_path)) == ("process", "nspawn hosts do not work here: they need root")
    with pytest.raises(LabProblem, match="no kind of host"):
        kinds.choose(Lab("nobody", tmp_path), "docker")


def test_what_is_not_up_says_so(tmp_path):
    centre = Datacentre(Lab("tn0-down", tmp_path))
    assert centre.status() == {"lab": "tn0-down", "kind": "", "hosts": {}}
    with pytest.raises(LabProblem, match="is not up") as raised:
        centre.describe()
    assert "lab up" in raised.value.act


def test_sources_differ_where_they_must():
    addresses = [source.number for source in SOURCES] + [source.new_number for source in SOURCES if source.new_number]
    assert len(addresses) == len(set(addresses))
    assert {source.name: source.wave for source in SOURCES} == {"shop-db": 1, "shop-web": 1, "files": 1, "wiki": 2}
    assert [source.name for source in SOURCES if not source.new_number] == ["files"]  # takes its address over


@pytest.mark.nspawn
def test_notes_and_keys_are_for_their_user_alone(spare_lab):
    centre = Datacentre(spare_lab)
    assert centre.key().stat().st_mode & 0o077 == 0
    Nameserver(spare_lab).key()
    for path in (spare_lab.dir / "dns").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert json.loads(json.dumps(centre.status())) == centre.status()
