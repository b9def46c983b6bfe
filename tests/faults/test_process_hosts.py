"""Faults of machines, by the table, on process hosts: each is named with its next act, and retried to success."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from servers.models import HostKey, Run
from servers.remote import access
from servers.remote.hostkeys import fingerprint
from tests.faults.conftest import Hosts, accept, key_of
from tests.faults.matrix import Fault, Line, is_named_and_retried, nothing, table
from tests.patience import wait_until
from tests.servers.movers.processes import RSYNC, at_work, log_in_of

pytestmark = [pytest.mark.lab, pytest.mark.django_db, pytest.mark.usefixtures("trap_commands")]

OTHER_PRIVATE, OTHER_PUBLIC = access.new_key_pair("another")
OTHER_KEY = fingerprint(OTHER_PUBLIC.split()[1])
Act = Callable[[Hosts], None]
SLOW: dict[str, Any] = {"choices": {"bandwidth": 512}, "sound": {"bandwidth": 0}}  # KiB/s: 3 MiB take six seconds
SLOWER: dict[str, Any] = {"choices": {"bandwidth": 100}, "sound": {"bandwidth": 0}}  # for a fault that ends the copy
mounts = pytest.mark.skipif(os.geteuid() != 0, reason="a file system can only be mounted by root")


def credential(**changes: str) -> Act:
    return lambda hosts: hosts.credential(**changes)


def right_key(hosts: Hosts) -> None:
    hosts.credential(secret=hosts.source.endpoint.private_key, kind="key")


def other_machine(hosts: Hosts) -> None:
    """What was accepted is the key of the machine that was there before."""
    hosts.rows["source"].host_keys.all().delete()
    accept(hosts.rows["source"], OTHER_PUBLIC)


def explained(hosts: Hosts) -> None:
    """It was reinstalled: a person accepts the new key, and the old one is retired."""
    hosts.rows["source"].host_keys.update(state=HostKey.State.RETIRED)
    accept(hosts.rows["source"], key_of(hosts.source.endpoint))


def sshd(what: signal.Signals) -> Act:
    return lambda hosts: os.kill(int((hosts.source.root / "run/sshd.pid").read_text()), what)


HANGS = (sshd(signal.SIGSTOP), sshd(signal.SIGCONT))


def no_rsync(side: str) -> tuple[Act, Act]:
    def cause(hosts: Hosts) -> None:
        getattr(hosts, side).write("sbin/traps/rsync", "#!/bin/sh\necho not found >&2\nexit 127\n", 0o755)

    return cause, lambda hosts: (getattr(hosts, side).root / "sbin/traps/rsync").unlink()


def small(hosts: Hosts) -> None:
    """The target's file system has 2 MiB for 3."""
    _mount(hosts, "2m")


def larger(hosts: Hosts) -> None:
    subprocess.run(["umount", "-l", str(hosts.target.root / "srv/data")], check=True)


def just_enough(hosts: Hosts) -> None:
    _mount(hosts, "5m")


def _mount(hosts: Hosts, size: str) -> None:
    account = hosts.target.backend.account
    options = f"size={size},uid={account.uid},gid={account.gid}"
    place = str(hosts.target.root / "srv/data")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)


def fill(hosts: Hosts) -> None:
    """Somebody else fills the target's disk while data arrives."""
    hosts.target.execute("head -c 8M /dev/zero >srv/data/somebody-elses")


def empty(hosts: Hosts) -> None:
    (hosts.target.root / "srv/data/somebody-elses").unlink()
    larger(hosts)


def read_only(hosts: Hosts) -> None:
    place = str(hosts.source.root / "var/lib")
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)


def writable(hosts: Hosts) -> None:
    subprocess.run(["umount", "-l", str(hosts.source.root / "var/lib")], check=True)


def cut(hosts: Hosts) -> None:
    """The log-in by which data arrives on the target is killed, as by a firewall that resets it."""
    for pid in wait_until(lambda: at_work(hosts.target, RSYNC), 60, "nothing receives on the target"):
        with contextlib.suppress(OSError):  # it ended with the first
            os.kill(log_in_of(pid), signal.SIGKILL)


def used_by_a_tester(hosts: Hosts) -> None:
    """A tester changes, adds and removes files between two deltas."""
    hosts.done("sync")
    hosts.target.execute("sleep 2.1; echo mine >srv/data/1; echo mine >srv/data/new; rm srv/data/2")


FAULTS = [
    Fault(
        "wrong key",
        "facts",
        credential(secret=OTHER_PRIVATE),
        right_key,
        "{source_at}: the private key of {user} was refused.",
        "Correct user name or credential; on the machine look at ~/.ssh/authorized_keys and sshd's log. Then retry.",
    ),
    Fault(
        "wrong key, found by the check",
        "host_check",
        credential(secret=OTHER_PRIVATE),
        right_key,
        "{source_at}: the private key of {user} was refused.",
        "Correct user name or credential; on the machine look at ~/.ssh/authorized_keys and sshd's log. Then retry.",
        ends=Run.State.SUCCEEDED,  # the check was made; its findings block
    ),
    Fault(
        "a password where sshd takes none",
        "facts",
        credential(kind="password", secret="secret"),
        right_key,
        "{source_at}: sshd does not take the password from {user}; it offers publickey.",
        "Choose a credential of a kind that sshd offers, or change its sshd_config, then retry.",
    ),
    Fault(
        "changed host key",
        "facts",
        other_machine,
        explained,
        "{source_at}: the machine shows the host key ssh-ed25519 {source_key}, but accepted is ssh-ed25519 "
        f"{OTHER_KEY}. Nothing was sent to it.",
        "Find out why the key differs (another machine at this address, or reinstalled); check the server again and "
        "accept the new key only if that is explained, then retry.",
    ),
    Fault(
        "changed host key, found by the check",
        "host_check",
        other_machine,
        explained,
        "{source} ({source_address}) shows another ssh-ed25519 host key: {source_key}; accepted was "
        f"{OTHER_KEY}.",
        "Find out why on the machine's console; accept the new key only if the machine was reinstalled.",
        ends=Run.State.SUCCEEDED,
    ),
    Fault(
        "accepts and hangs",
        "facts",
        *HANGS,
        "{source_at}: accepts connections, but no SSH server answered within 4 s.",
        "Check on the machine's console whether it hangs, and that the port is sshd's; then retry.",
        patience=1,
    ),
    Fault(
        "hangs before the copy",
        "sync",
        *HANGS,
        "{source_at}: accepts connections, but no SSH server answered within 4 s.",
        "Check on the machine's console whether it hangs, and that the port is sshd's; then retry.",
        patience=1,
        marks=(pytest.mark.full,),
    ),
    Fault(
        "hangs for a moment",
        "preflight",
        *HANGS,
        "{source_at}: accepts connections, but no SSH server answered within 4 s.",
        "Check on the machine's console whether it hangs, and that the port is sshd's; then retry.",
        passes=True,
    ),
    Fault(
        "no rsync on the source",
        "preflight",
        *no_rsync("source"),
        "{source} has no rsync.",
        "Install rsync there.",
    ),
    Fault(
        "no rsync on the target",
        "preflight",
        *no_rsync("target"),
        "{target} has no rsync.",
        "Install rsync there.",
    ),
    Fault(
        "target too small, found before",
        "preflight",
        small,
        larger,
        "The data does not fit: 3.0 MiB needed, 1.9 MiB usable on {target} in {target_root}/srv/data.",
        "Choose a service plan with a larger disk, or exclude what need not move.",
        marks=(mounts,),
    ),
    Fault(
        "target full in mid-copy",
        "sync",
        fill,
        empty,
        "The target has no space left. ⟨⟩No space left on device: {target_root}/srv/data.",
        "Enlarge the target's disk, then try again.",
        before=just_enough,
        during="copying",
        marks=(mounts,),
        **SLOW,
    ),
    Fault(
        "source read-only, found before",
        "preflight",
        read_only,
        writable,
        "{source}: the lists of a sync cannot be written below {source_root}/var/lib/migrationhub/{key}: a file system"
        " is read-only.",
        "Look why (dmesg), mount it writable, then retry.",
        marks=(mounts,),
    ),
    Fault(
        "source read-only",
        "sync",
        read_only,
        writable,
        "{source}: a file system is read-only: “⟨⟩” ended with status 1. It said: “⟨⟩Read-only file system”.",
        "Look why (dmesg), mount it writable, then retry.",
        marks=(mounts, pytest.mark.full),
    ),
    Fault(
        "connection cut in mid-copy",
        "sync",
        cut,
        nothing,
        "The connection to the target broke in the middle of the copy.⟨⟩",
        "Check the network and whether the target runs, then try again; the copy goes on where it stopped.",
        during="copying",
        **SLOWER,
    ),
    Fault(
        "clone used between deltas",
        "sync",
        used_by_a_tester,
        nothing,
        "3 paths that were changed on the clone since the last sync are as on the source again (/srv/data/1,"
        " /srv/data/2, /srv/data/new).",
        "Whoever still needs such a change makes it on the source.",
        choices={"kind": "delta"},
        ends=Run.State.SUCCEEDED,
    ),
]


@table(FAULTS)
def test_it_is_named_and_retried(fault: Fault, hosts: Hosts, line: Line) -> None:
    is_named_and_retried(fault, hosts, line)


# -- a clone in use -------------------------------------------------------------------------------------------


def clone_runs(hosts: Hosts) -> None:
    """The clone has brought a service along, which is stopped there while data arrives."""
    text = "[program:app]\ncommand=sleep 600\nautostart=true\nstartsecs=0\n"
    hosts.target.write("etc/supervisor.d/app.ini", text)
    hosts.target.supervisorctl("update")


def tester_starts_it(hosts: Hosts) -> None:
    hosts.target.supervisorctl("add", "app")


IN_USE = [
    Fault(
        "a clone in use before the copy",
        "sync",
        tester_starts_it,
        nothing,
        "The target is still in use, so nothing is copied to it: {target}: app is RUNNING.",
        "Find out what started it, stop it, then retry.",
        before=clone_runs,
        during="starting",
        choices={"services": ["app"]},
    ),
    Fault(
        "a clone in use during the copy",
        "sync",
        tester_starts_it,
        nothing,
        "Something started on the target while it received: {target}: app is RUNNING.",
        "Keep it from starting there, then try again. The copy on {target} is incomplete, so its services stay stopped:"
        " run a sync to its end before anybody uses it.",
        before=clone_runs,
        during="copying",
        choices={"services": ["app"], "bandwidth": 512},
        sound={"bandwidth": 0},
        marks=(pytest.mark.full,),
    ),
]


@table(IN_USE)
def test_a_clone_in_use_is_named_and_the_copy_retried(fault: Fault, hosts: Hosts, line: Line) -> None:
    """Without the proof such a copy ends well and is wrong."""
    try:
        is_named_and_retried(fault, hosts, line)
    finally:
        (hosts.target.root / "etc/supervisor.d/app.ini").unlink()
        hosts.target.start()
        hosts.target.supervisorctl("update")
