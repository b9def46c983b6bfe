"""nspawn hosts: boot, reboot, power, what is in the guest, snapshots, and repair of what a crash left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from migrationhub.lab import keeper, recipes
from migrationhub.lab.hosts import HostSpec, Nic
from migrationhub.lab.images import ImageProblem
from migrationhub.lab.recipes.base import BASE, Recipe
from migrationhub.lab.state import LabProblem
from tests import patience

pytestmark = pytest.mark.nspawn
wait_until = partial(patience.wait_until, seconds=120.0)


@pytest.fixture(scope="module")
def host(nspawn_module_host):
    """One host for the tests that leave it as they found it: running."""
    user_data = "#!/bin/sh\necho once >> /root/ran\necho seen in the log\nexit 4\n"
    return nspawn_module_host("one", "debian", user_data=user_data)


def mounts():
    return Path("/proc/mounts").read_text()


def reaches(address, port=22):
    return (
        subprocess.run(["timeout", "1", "bash", "-c", f"</dev/tcp/{address}/{port}"], capture_output=True).returncode
        == 0
    )


def test_every_host_has_an_identity_of_its_own(host, nspawn_host):
    other = nspawn_host("two", "debian-networkd", "migration")
    ids = []
    for one in (host, other):
        done = one.ssh("hostname; cat /etc/machine-id; systemctl is-system-running --wait")
        name, machine_id, state = done.stdout.decode().split()
        assert (name, state) == (one.name, "running"), done.stderr
        ids.append(machine_id)
    assert len(ids[0]) == len(ids[1]) == 32
    assert ids[0] != ids[1]
    assert not set(host.endpoint.host_keys) & set(other.endpoint.host_keys)


def test_only_who_is_given_a_key_gets_in(nspawn_host):
    closed = nspawn_host("closed", "debian", authorized_key="")
    assert closed.ssh("true").returncode == 255
    assert closed.execute("test -e /root/.ssh/authorized_keys").rc == 1


def test_clones_have_another_kernel_than_sources(host, nspawn_lab):
    versions = {name: recipes.recipe(name).kernel for name in ("debian", "shop-db", "shop-web", "files", "wiki")}
    assert versions.pop("debian") not in versions.values()
    kernel = recipes.recipe("debian").kernel
    assert host.execute("ls -d /boot/vmlinuz-* /lib/modules/*").out.split() == [
        f"/boot/vmlinuz-{kernel}",
        f"/lib/modules/{kernel}",
    ]


def test_user_data_runs_once_with_its_output_in_a_log(host):
    wait_until(lambda: host.execute("test -e /var/lib/cloud/instance/boot-finished").rc == 0)
    log = host.execute("cat /var/log/cloud-init-output.log").out
    assert "seen in the log" in log
    assert "user data ended with 4" in log
    reboot(host)
    wait_until(lambda: "running" in host.execute("systemctl is-system-running").out)
    assert host.execute("cat /root/ran").out == "once\n"


def reboot(host):
    boot = host.boot_id()
    host.ssh("systemctl reboot")
    host.wait_for_reboot(boot)


def test_reboot_keeps_identity_and_address(host):
    before = host.execute("cat /etc/machine-id").out
    reboot(host)
    assert host.execute("cat /etc/machine-id").out == before
    assert host.ssh("true").returncode == 0
    assert host.backend.power(host.name) == "on"


def test_switched_off_from_inside_it_stays_off_and_answers_nothing(host):
    host.ssh("systemctl poweroff")
    wait_until(lambda: host.backend.power(host.name) == "off")
    assert not host.backend.should_run(host.name)
    assert not reaches(host.endpoint.address)
    with pytest.raises(LabProblem, match="is off"):
        host.execute("true")
    host.start()
    assert reaches(host.endpoint.address)


def test_start_and_stop_twice_are_once(host):
    boot = host.boot_id()
    host.backend.start(host.name)
    assert host.boot_id() == boot
    host.stop()
    host.stop()
    assert host.backend.power(host.name) == "off"
    assert "Powering off" in host.backend.console(host.name, 20)
    host.start()


def test_a_killed_keeper_is_a_power_cut_that_start_repairs(host):
    os.kill(keeper.holder(host.backend.hosts / host.name / "lock"), signal.SIGKILL)
    wait_until(lambda: host.backend.power(host.name) == "off")
    assert host.backend.should_run(host.name)
    host.start()
    assert host.ssh("true").returncode == 0


def test_pulling_the_plug_takes_no_time(host):
    host.execute("systemd-run --quiet sh -c 'trap \"\" TERM; sleep 600'")
    began = time.monotonic()
    host.stop(hard=True)
    assert time.monotonic() - began < 30
    assert host.backend.power(host.name) == "off"
    host.start()


def test_attach_counts_from_the_next_power_on_and_rewrites_nothing(host, nspawn_lab):
    was = host.backend.nics(host.name)
    files = "cat /etc/network/interfaces.d/* /etc/resolv.conf"
    before, mac = host.execute(files).out, "cat /sys/class/net/eth0/address"
    old_mac = host.execute(mac).out
    host.backend.attach(host.name, (Nic("migration", nspawn_lab.lab.address("migration", 99, prefix=True)),))
    assert reaches(host.endpoint.address)
    try:
        host.stop()
        host.start()
        assert host.execute(files).out == before
        assert host.execute(mac).out != old_mac  # another interface, as the platform makes it
        assert not reaches(host.endpoint.address)  # its address is no longer one of its network
        host.execute(f"ip addr replace {nspawn_lab.lab.address('migration', 99, prefix=True)} dev eth0")
        assert reaches(nspawn_lab.lab.address("migration", 99))
    finally:
        host.backend.attach(host.name, was)
        host.stop()
        host.start()
    assert reaches(host.endpoint.address)


def test_execute_gives_status_and_both_outputs_and_keeps_its_time(host):
    done = host.execute("echo out; echo err >&2; cat; exit 7")
    assert (done.rc, done.out, done.err) == (7, "out\n", "err\n")
    began = time.monotonic()
    with pytest.raises(LabProblem, match="not done within 1 seconds"):
        host.execute("sleep 30", timeout=1)
    assert time.monotonic() - began < 20


def test_snapshot_and_revert(host):
    host.execute("echo before > /root/file; sync")
    host.backend.snapshot(host.name, "first")
    assert host.execute("cat /root/file").out == "before\n"  # thawed
    host.execute("echo after > /root/file; touch /root/new")
    host.backend.revert(host.name, "first")
    host.start()
    assert host.execute("cat /root/file; ls /root/new").out == "before\n"
    with pytest.raises(LabProblem, match="no snapshot “second”"):
        host.backend.revert(host.name, "second")


def test_btrfs_root_can_be_snapshotted_from_inside(nspawn_host):
    files = nspawn_host("files", "files", files="300")
    snapshot = "btrfs subvolume snapshot -r / /.snap && ls /.snap/srv/files/links && btrfs subvolume delete /.snap"
    done = files.execute(snapshot)
    assert done.rc == 0, done.err
    assert "dangling" in done.out
    assert "cap_net_bind_service" in files.execute("getcap -r /srv/files").out
    assert files.execute("systemctl is-active churn rsync").out.split() == ["active", "active"]
    files.stop()
    assert (files.root / "srv/files/links").is_dir()  # readable for verification while it is off
    assert files.root.is_mount()
    files.backend.delete("files")
    assert not (files.backend.hosts / "files").exists()
    assert str(files.backend.hosts) not in mounts()


def test_orders_are_written_and_shown(nspawn_host, nspawn_lab):
    database = nspawn_host("shop-db", "shop-db")
    nspawn_lab.nameserver.enter("db", database.endpoint.address, "production")
    web = nspawn_host("shop-web", "shop-web")
    query = "setpriv --reuid postgres --regid postgres --init-groups psql -Atd shop -c"

    def ask(sql):
        return database.execute(f'cd /; {query} "{sql}"').out.strip()

    wait_until(
        lambda: ask("select count(*) from orders").isdigit() and int(ask("select max(number) from orders") or 0) > 3
    )
    assert ask("select count(*) = max(number) from orders") == "t"
    assert ask("select distinct written_by from orders") == database.execute("cat /etc/machine-id").out.strip()
    page = ["curl", "-s", f"http://{web.endpoint.address}/"]
    wait_until(lambda: b"<h1>Shop</h1>" in subprocess.run(page, capture_output=True).stdout)


def test_a_failed_build_leaves_nothing_half(nspawn_lab, monkeypatch):
    broken = Recipe("broken", BASE, commands="echo this cannot work; exit 3\n")
    monkeypatch.setitem(recipes.RECIPES, "broken", broken)
    images = nspawn_lab.backend.images
    with pytest.raises(ImageProblem, match="this cannot work"), images.image("broken"):
        pass
    assert not list(images.images.glob("*broken*"))
    assert str(images.images) not in mounts()


def test_a_creation_that_fails_or_was_cut_is_made_anew(nspawn_lab, monkeypatch):
    backend = nspawn_lab.backend
    failing = replace(recipes.recipe("files"), creation="echo no room >&2; exit 1\n")
    spec = HostSpec("cut", "files", (), options={"files": "10"})
    with monkeypatch.context() as patch, pytest.raises(LabProblem, match="no room"):
        patch.setitem(recipes.RECIPES, "files", failing)
        backend.create(spec)
    assert backend.power("cut") == "absent"
    assert not list(backend.hosts.glob(".new-*"))
    left = backend.hosts / ".new-cut"  # as a killed creation leaves it: a mounted disk, half a root
    (left / "root").mkdir(parents=True)
    subprocess.run(f"truncate -s 200M {left}/disk.img && mkfs.btrfs -q {left}/disk.img", shell=True, check=True)
    subprocess.run(["mount", "-o", "loop", f"{left}/disk.img", f"{left}/root"], check=True)
    try:
        backend.create(spec)
        backend.create(spec)
        assert backend.power("cut") == "off"
        assert not left.exists()
    finally:
        backend.delete("cut")
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["umount", f"{left}/root"], capture_output=True)


def test_without_a_network_the_reason_is_told(spare_lab):
    from migrationhub.lab.nspawn import NspawnBackend

    backend = NspawnBackend(spare_lab)
    backend.create(HostSpec("lost", "debian", (Nic("production", ""),)))
    with pytest.raises(LabProblem, match=r"“lost” did not start(.|\n)*router"):
        backend.start("lost")
    assert backend.power("lost") == "off"


def test_files_of_a_host_are_for_root_alone(host):
    for name in ("host.json", "keeper.json", "console.log"):
        assert (host.backend.hosts / host.name / name).stat().st_mode & 0o077 == 0
    assert "user_data" in json.loads((host.backend.hosts / host.name / "host.json").read_text())


def test_unknown_names_are_told_with_the_known_ones(nspawn_lab, host):
    with pytest.raises(LabProblem, match=r"no host “nobody”.*one"):
        nspawn_lab.backend.start("nobody")
    with pytest.raises(LabProblem, match=r"no image “windows”.*debian"):
        nspawn_lab.backend.create(HostSpec("w", "windows", ()))
    with pytest.raises(LabProblem, match="no name for a host"):
        nspawn_lab.backend.create(HostSpec("../etc", "debian", ()))
    assert nspawn_lab.backend.power("nobody") == "absent"
    nspawn_lab.backend.delete("nobody")
