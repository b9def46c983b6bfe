"""Process hosts: real sshd, real supervisord, real power."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from migrationhub.lab import process_account, process_table
from migrationhub.lab.hosts import HostSpec, Nic
from migrationhub.lab.process import PORT, ProcessBackend
from migrationhub.lab.process_keeper import processes_of
from migrationhub.lab.process_table import wait_for
from migrationhub.lab.state import Lab, LabProblem, known_labs
from servers.remote import access, ssh
from servers.remote.base import Unreachable
from tests.fixtures_lab import ProcessHost, ProcessLab

Make = Callable[..., ProcessHost]


@pytest.fixture(scope="module")
def shared(process_module_host: Make) -> ProcessHost:
    """A host that tests may use as long as they leave it on."""
    return process_module_host("shared")


def on_ssh(host: ProcessHost, command: str) -> str:
    connection = ssh.connect(host.endpoint)
    try:
        return connection.run(command, check=True).text
    finally:
        connection.close()


# -- what a host is ---------------------------------------------------------------------------------------------


def test_a_login_is_the_labs_account_and_finds_the_host(shared: ProcessHost) -> None:
    said = on_ssh(shared, 'id -un; echo "$HOME $HOST_DIR $HOST_NAME $HOST_ADDRESS"; command -v systemctl')
    account, variables, systemctl = said.splitlines()
    assert account == shared.backend.account.name
    assert variables == f"{shared.root} {shared.root} shared {shared.endpoint.address}"
    assert systemctl == f"{shared.root}/sbin/traps/systemctl"
    if os.geteuid() == 0:
        assert account == "mhlab"
        assert pwd.getpwnam(account).pw_uid != 0
        denied = shared.execute("cat /etc/shadow; touch /etc/of-the-lab")
        assert denied.rc != 0
        assert denied.err.count("Permission denied") == 2


def test_execute_is_in_the_hosts_directory_and_tells_status_and_output(shared: ProcessHost) -> None:
    done = shared.execute("pwd; printf 'a\\377' ; echo e >&2; exit 3")
    assert (done.rc, done.out, done.err) == (3, f"{shared.root}\na\\xff", "e\n")


def test_execute_ends_what_takes_too_long_but_waits_for_nothing_in_the_background(shared: ProcessHost) -> None:
    begun = time.monotonic()
    late = shared.execute("echo begun; sleep 60", timeout=0.3)
    assert (late.rc, late.out) == (124, "begun\n")
    assert "not done after 0.3 seconds" in late.err
    assert shared.execute("sleep 61 & echo started").out == "started\n"
    assert time.monotonic() - begun < 10


def test_hosts_have_machine_ids_and_host_keys_of_their_own(process_host: Make, shared: ProcessHost) -> None:
    other = process_host("other")
    ids = {(host.root / "etc/machine-id").read_text() for host in (shared, other)}
    assert len(ids) == 2
    assert all(len(word.strip()) == 32 for word in ids)
    assert not set(shared.host_keys()) & set(other.host_keys())
    private = other.root / "etc/ssh/ssh_host_ed25519_key"
    assert private.stat().st_mode & 0o777 == 0o600


def test_user_data_runs_once_at_the_first_boot(process_host: Make) -> None:
    host = process_host("first", user_data='echo "$PWD $HOME" >> "$HOST_DIR/ran"; echo said; exit 4')
    first = host.root / "var/lib/first-boot"
    assert wait_for(lambda: (first / "done").exists(), 60)
    assert (first / "done").read_text() == "4\n"
    assert (first / "output.log").read_text() == "said\n"
    host.stop()
    host.start()
    assert host.supervisorctl("pid").strip().isdigit()
    assert (host.root / "ran").read_text().count("\n") == 1


def test_traps_are_refused_and_told(process_host: Make, process_lab: ProcessLab) -> None:
    host = process_host("trapped")
    connection = ssh.connect(host.endpoint)
    result = connection.run("systemctl stop nginx")
    connection.close()
    assert result.rc == 97
    assert b"a directory of a real machine" in result.err
    assert host.execute("sudo -n true").rc == 97
    assert [line.split("\t")[1] for line in host.trapped()] == ["systemctl stop nginx", "sudo -n true"]
    # The fixture `trap_commands` looks here: a call is not forgotten with its host.
    process_lab.delete("trapped")
    assert [line for line in process_lab.trapped_so_far() if line.startswith("trapped\t")]


def test_our_access_opens_by_user_data_and_is_read_back(process_host: Make, process_lab: ProcessLab) -> None:
    """As the platform makes a clone: nothing but user data at creation and execution inside."""
    private, public = access.new_key_pair("migration")
    clone = process_host(
        "clone",
        network="migration",
        authorized_key="",
        user_data=access.user_data(public, manager="supervisord"),
    )
    read_back = access.read_back_script(manager="supervisord", directory=str(clone.root))
    assert access.parse_read_back(clone.execute(read_back).out) == (clone.host_keys()[1],)
    assert wait_for(lambda: (clone.root / "var/lib/first-boot/done").exists(), 60)
    clone.endpoint = replace(clone.endpoint, private_key=private)
    assert on_ssh(clone, "echo in") == "in\n"


# -- power ------------------------------------------------------------------------------------------------------


def processes_on(host: ProcessHost) -> list[process_table.Process]:
    return processes_of(host.root, host.backend.account)


def test_power_is_asked_of_the_processes_and_start_twice_is_start_once(process_host: Make) -> None:
    host = process_host("power", start=False)
    backend = host.backend
    assert backend.power("power") == "off"
    assert backend.power("nobody") == "absent"
    host.start()
    keeper = backend.keeper("power")
    backend.start("power")
    assert backend.keeper("power") == keeper
    assert backend.power("power") == "on"
    # A note of a process number that is another's now is not believed.
    (backend.control / "power/keeper.json").write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    assert backend.keeper("power") == keeper
    host.stop()
    (backend.control / "power/keeper.json").write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    assert backend.power("power") == "off"
    assert not processes_on(host)


def test_poweroff_inside_ends_everything_and_it_stays_off(process_host: Make) -> None:
    host = process_host("off")
    host.execute("setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' > /dev/null 2>&1 &")
    assert len(processes_on(host)) >= 3
    on_ssh(host, f"{host.root}/sbin/poweroff")
    assert wait_for(lambda: host.backend.power("off") == "off", 60)
    assert not processes_on(host)
    with pytest.raises(Unreachable):
        ssh.connect(host.endpoint)
    time.sleep(1.2)  # longer than a daemon that ended by itself is left alone
    assert host.backend.power("off") == "off"
    with pytest.raises(LabProblem, match="“off” is off"):
        host.execute("true")


def test_reboot_inside_starts_it_again_with_another_boot_id(process_host: Make) -> None:
    host = process_host("again")
    boot_id = (host.root / "run/boot_id").read_text()
    host.write("run/migrationhub/job/rc", "0")
    host.write("srv/kept", "data")
    keeper = host.backend.keeper("again")
    on_ssh(host, f"{host.root}/sbin/reboot")
    file = host.root / "run/boot_id"
    assert wait_for(lambda: file.exists() and file.read_text() not in ("", boot_id), 60)
    assert wait_for(lambda: host.backend._answers("again"), 60)
    assert host.backend.keeper("again") == keeper
    assert not (host.root / "run/migrationhub").exists()  # as in memory on a real host
    assert (host.root / "srv/kept").read_text() == "data"
    assert on_ssh(host, "echo back") == "back\n"  # the same host key


def test_a_daemon_that_dies_is_started_again(process_host: Make) -> None:
    host = process_host("daemon")
    pid = int((host.root / "run/sshd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: (host.root / "run/sshd.pid").read_text().strip() != str(pid), 60)
    assert wait_for(lambda: host.backend._answers("daemon"), 60)


def test_pulling_the_plug_gives_services_no_time(process_host: Make) -> None:
    host = process_host("plug", start=False)
    script = 'trap "echo orderly > $HOST_DIR/srv/end; exit" TERM; while :; do sleep 0.1; done'
    host.write("opt/service", script)
    host.write(
        "etc/supervisor.d/service.ini",
        "[program:service]\ncommand=sh %(ENV_HOST_DIR)s/opt/service\nstartsecs=0\n",
    )
    host.start()
    time.sleep(0.5)
    host.stop(hard=True)
    assert not (host.root / "srv/end").exists()
    assert not processes_on(host)
    host.start()
    time.sleep(0.5)
    host.stop()
    assert (host.root / "srv/end").read_text() == "orderly\n"


def test_a_killed_keeper_leaves_a_host_that_can_be_started_and_deleted(process_host: Make) -> None:
    host = process_host("orphan")
    host.execute("setsid sleep 1000 > /dev/null 2>&1 &")
    keeper = host.backend.keeper("orphan")
    assert keeper
    process_table.send(keeper, signal.SIGKILL)
    assert wait_for(lambda: host.backend.power("orphan") == "off", 60)
    assert processes_on(host)
    host.start()
    assert host.backend.power("orphan") == "on"
    keeper = host.backend.keeper("orphan")
    assert keeper
    process_table.send(keeper, signal.SIGKILL)
    host.backend.delete("orphan")
    assert not processes_on(host)
    assert host.backend.power("orphan") == "absent"
    assert not host.root.exists()
    host.backend.delete("orphan")  # again is no error


def test_two_starts_at_the_same_time_start_one(process_host: Make) -> None:
    host = process_host("twice", start=False)
    threads = [threading.Thread(target=ProcessBackend(host.backend.lab).start, args=("twice",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    titles = [Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in processes_on(host)]
    assert len([title for title in titles if title.startswith(b"sshd")]) == 1
    assert len([title for title in titles if b"supervisord" in title.split(b"\0")[1]]) == 1
    assert host.backend._answers("twice")


def test_a_host_that_cannot_start_says_what_its_console_says(process_host: Make, process_lab: ProcessLab) -> None:
    with socket.socket() as taken:
        address = process_lab.lab.address("production", 251, "process")
        taken.bind((address, PORT))
        taken.listen()
        host = process_host("broken", address=address, start=False)
        host.write("etc/supervisord.conf", "nonsense")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("migrationhub.lab.process.START_SECONDS", 2.0)
            with pytest.raises(LabProblem, match=r"(?s)“broken” did not start.*supervisord ended by itself"):
                host.start()
    assert host.backend.power("broken") == "off"


# -- network, snapshots, disks ----------------------------------------------------------------------------------


def test_another_network_counts_from_the_next_power_on(process_host: Make, process_lab: ProcessLab) -> None:
    host = process_host("moves", network="migration")
    old, new = host.endpoint, process_lab.lab.address("production", 252, "process")
    host.backend.attach("moves", (Nic("production", f"{new}/24"),))
    assert on_ssh(host, "echo $HOST_ADDRESS").strip() == old.address
    host.stop()
    host.start()
    assert host.endpoint.address == new
    address, port = process_lab.lab.resolver("production", "process")
    assert on_ssh(host, "echo $HOST_ADDRESS $HOST_RESOLVER").split() == [new, f"{address}:{port}"]
    with pytest.raises(Unreachable):
        ssh.connect(replace(old, host_keys=host.endpoint.host_keys))


def test_without_an_address_it_listens_nowhere(process_host: Make) -> None:
    host = process_host("deaf", start=False)
    host.backend.attach("deaf", (Nic("production"),))
    host.backend.start("deaf")
    assert host.execute("echo $HOST_ADDRESS").out == "\n"
    assert not (host.root / "run/sshd.pid").exists()


def test_a_snapshot_of_a_running_host_comes_back(process_host: Make) -> None:
    host = process_host("snap", "files", files="30", interval="0.01")
    host.backend.snapshot("snap", "before")
    machine_id = (host.root / "etc/machine-id").read_text()
    assert "RUNNING" in host.supervisorctl("status", "churn")  # it goes on after standing still
    host.write("srv/files/of a tester", "x")
    (host.root / "srv/files/links/fifo").unlink()
    host.backend.snapshot("snap", "before")  # the same again changes nothing
    host.backend.revert("snap", "before")
    assert host.backend.power("snap") == "on"
    assert not (host.root / "srv/files/of a tester").exists()
    assert (host.root / "srv/files/links/fifo").is_fifo()
    assert os.getxattr(host.root / "srv/files/attributes/xattr1", "user.comment") == b"number 1 \xff\n"
    assert (host.root / "srv/files/attributes/xattr1").stat().st_uid == host.backend.account.uid
    assert (host.root / "etc/machine-id").read_text() == machine_id
    assert on_ssh(host, "echo same key") == "same key\n"
    host.stop()
    host.backend.revert("snap", "before")
    assert host.backend.power("snap") == "off"
    with pytest.raises(LabProblem, match=r"no snapshot “after”.*before"):
        host.backend.revert("snap", "after")


def test_a_call_that_was_cut_off_is_repaired_by_calling_again(process_host: Make) -> None:
    host = process_host("cut", start=False)
    backend, root = host.backend, host.root
    spec = HostSpec("cut", "base", (Nic("production", f"{host.endpoint.address}/24"),))
    # create: the root was made, its note was not written; and half a root lies beside it
    (backend.control / "cut/host.json").unlink()
    (root / "srv/half").touch()
    (root.with_name(".cut.new") / "srv").mkdir(parents=True)
    assert backend.power("cut") == "absent"
    assert "cut" not in backend.names()
    backend.create(spec)
    assert backend.power("cut") == "off"
    assert not (root / "srv/half").exists()
    assert not root.with_name(".cut.new").exists()
    # create again keeps what is there
    (root / "srv/data").touch()
    backend.create(spec)
    assert (root / "srv/data").exists()
    # revert: the old root is gone, the new one has not its name yet
    root.rename(root.with_name(".cut.new"))
    assert backend.power("cut") == "off"
    backend.start("cut")
    assert (root / "srv/data").exists()


def test_wrong_names_and_recipes_are_sentences(process_lab: ProcessLab) -> None:
    with pytest.raises(LabProblem, match=r"no recipe “windows”.*base"):
        process_lab.backend.create(HostSpec("w", "windows", ()))
    with pytest.raises(LabProblem, match=r"no recipe “base” for a process host “\.\./w”"):
        process_lab.backend.create(HostSpec("../w", "base", ()))
    with pytest.raises(LabProblem, match="no process host “nobody”"):
        process_lab.backend.start("nobody")


# -- the lab ----------------------------------------------------------------------------------------------------


def test_down_leaves_nothing_behind(tmp_path: Path) -> None:
    lab = Lab("downtest", tmp_path)
    backend = ProcessBackend(lab)
    try:
        backend.create(HostSpec("a", "base", (Nic("production", lab.address("production", 9, "process")),)))
        backend.start("a")
        uid = backend.account.uid
        # Somebody deletes the lab's own directory; its hosts must be found nevertheless.
        (backend.control / "a/host.json").unlink()
        root = backend.root("a")
    finally:
        ProcessBackend(lab).down()
        lab.remove()
    assert not root.parent.exists()
    assert not lab.dir.exists()
    assert not process_table.with_environment("HOST_DIR", str(root), uid)
    assert lab.name not in [known.name for known in known_labs()]
    backend.down()  # again is no error


test_down_leaves_nothing_behind = pytest.mark.lab(test_down_leaves_nothing_behind)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes an account")
@pytest.mark.lab
def test_the_account_stays_while_another_lab_has_hosts(process_host: Make) -> None:
    process_host("keeps-the-account", start=False)
    assert process_account.remove_unused() is False
    assert pwd.getpwnam(process_account.NAME).pw_dir == str(process_account.HOME)
