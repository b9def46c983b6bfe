"""nspawn hosts: boot, reboot, power, what is in the guest, snapshots, and repair of what a crash left."""

from __future__ import annotations

import subprocess
import time

import pytest

pytestmark = pytest.mark.nspawn


def ssh(host, command, address=""):
    """The real client over the lab's network, with the accepted host keys and nothing else."""
    known = host.backend.lab.dir / "known_hosts"
    address = address or host.endpoint.address
    known.write_text("".join(f"{address} {key}\n" for key in host.endpoint.host_keys))
    key = host.backend.lab.dir / "key"
    key.touch(0o600)
    key.write_text(host.endpoint.private_key)
    options = ["-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
    return subprocess.run(["ssh", *options, f"root@{address}", command], capture_output=True, text=True)


def test_boots_in_seconds(nspawn_lab, nspawn_host):
    with nspawn_lab.backend.images.image("debian"):  # built before the clock starts
        began = time.monotonic()
    nspawn_host("quick", "debian")
    assert time.monotonic() - began < 12


def test_boots_with_an_identity_of_its_own(nspawn_module_host):
    one = nspawn_module_host("one", "debian", "migration")
    two = nspawn_module_host("two", "debian-networkd")
    for host in (one, two):
        done = ssh(host, "hostname; cat /etc/machine-id; systemctl is-system-running --wait")
        name, machine_id, state = done.stdout.split()
        assert (name, state) == (host.name, "running"), done.stderr
        assert len(machine_id) == 32
    assert not set(one.endpoint.host_keys) & set(two.endpoint.host_keys)
    assert one.execute("cat /etc/machine-id").out != two.execute("cat /etc/machine-id").out
