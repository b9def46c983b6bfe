"""The source's identity on the target: taken over for the next boot, undone, and its private keys kept out of sight."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from migrationhub.lib.findings import Level, Problem
from servers.remote import identity
from servers.remote.base import Endpoint, HostKeyChanged, RemoteProblem
from servers.remote.identity import Choice, Identity, Record
from servers.remote.ssh import connect


class Elsewhere:
    endpoint = Endpoint("p", "127.0.0.1", manager="supervisord", directory="/x")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called on a supervisord host")


def test_on_a_supervisord_host_nothing_is_asked() -> None:
    for call in (identity.capture, lambda host: identity.apply(host, Identity(machine_id="0" * 32))):
        with pytest.raises(Problem, match="no identity of its own"):
            call(Elsewhere())


def test_private_keys_do_not_show() -> None:
    path = "/etc/ssh/ssh_host_ed25519_key"
    found = Identity({path: b"PRIVATE", f"{path}.pub": b"ssh-x AAAA me"})
    assert "PRIVATE" not in repr(found)
    assert found.public_keys == ("ssh-x AAAA",)


@pytest.mark.nspawn
def test_target_shows_the_source_after_its_next_boot_and_itself_after_the_undo(
    nspawn_module_host: Callable[..., Any],
) -> None:
    source, target = nspawn_module_host("id-source"), nspawn_module_host("id-target")
    there, here = connect(source.endpoint), connect(target.endpoint)
    here.run("rm /etc/ssh/ssh_host_rsa_key*", check=True)
    there.run("rm /etc/ssh/ssh_host_ecdsa_key*", check=True)
    here.run("mkdir -p /etc/cloud/cloud.cfg.d", check=True)
    everything = "cd /etc; md5sum ssh/ssh_host_* machine-id hostname hosts; stat -c '%a %n' ssh/ssh_host_* machine-id"
    everything += "; ls cloud/cloud.cfg.d"
    before = here.run(everything, check=True).text
    assert "id-target.shop.lab id-target" in here.run("cat /etc/hosts").text

    with pytest.raises(Problem, match="holds no identity of its source"):
        identity.staged(here)
    found = identity.capture(there)
    identity.stage(here, found)
    assert identity.staged(here) == found
    kept = here.run("stat -c '%a %U %n' /var/lib/migrationhub /var/lib/migrationhub/source-identity.json").text
    assert kept.split()[0::3] == ["700", "600"] and kept.split()[1::3] == ["root", "root"]
    record = identity.apply(here, found)
    not_yet = identity.prove(here, found, port=22, address=target.endpoint.address)
    assert {finding.code for finding in not_yet} == {"identity.host_name"}, "only written so far"
    stored = json.dumps(record.as_dict())
    assert "PRIVATE KEY" not in stored
    assert all(state.content is None for state in record.before)
    assert identity.apply(here, found).before == record.before  # repeated: still the target's own for the undo
    assert identity.verify(here, found)[0].level is Level.READY
    assert identity.shown_after_boot(here) == identity.shown_after_boot(there) == found.public_keys
    here.run("systemctl --no-block reboot")
    here.close()

    taken_over = replace(target.endpoint, host_keys=found.public_keys)
    deadline, after = time.monotonic() + 180, None
    while after is None:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        with contextlib.suppress(RemoteProblem):  # still the old host key, then nothing for a while
            after = connect(taken_over, connect_timeout=2)
    assert after.run("hostname; cat /etc/machine-id").text == f"id-source\n{found.machine_id}\n"
    assert "127.0.1.1 id-source.shop.lab id-source\n" in after.run("cat /etc/hosts").text
    assert "preserve_hostname: true" in after.run("cat /etc/cloud/cloud.cfg.d/*").text
    proof = identity.prove(after, identity.staged(after), port=22, address=target.endpoint.address)
    assert [finding.code for finding in proof] == ["identity.proven"], proof
    silent = identity.prove(after, found, port=2299, address=target.endpoint.address)
    assert [finding.code for finding in silent] == ["identity.no_sshd"]
    with pytest.raises(HostKeyChanged):
        connect(target.endpoint)

    identity.undo(after, Record.from_dict(json.loads(stored)))
    identity.undo(after, record)  # once more changes nothing
    identity.discard(after)
    assert after.run("ls /var/lib/migrationhub").text.split() == ["identity.undone"]
    assert after.run(everything, check=True).text == before
    assert identity.verify(after, found)[0].level is Level.BLOCKING
    after.close()

    only_name = identity.capture(there, Choice(host_keys=False, machine_id=False))
    assert only_name == Identity(host_name="id-source")
    there.run("echo uninitialized >/etc/machine-id", check=True)
    with pytest.raises(Problem, match="32 hexadecimal digits"):
        identity.capture(there)
    there.close()


@pytest.mark.nspawn
def test_undo_says_which_kept_copy_is_gone(nspawn_module_host: Callable[..., Any]) -> None:
    host = nspawn_module_host("id-lost")
    connection = connect(host.endpoint)
    record = identity.apply(connection, Identity(host_name="other"))
    connection.run("rm -r /var/lib/migrationhub/identity", check=True)
    with pytest.raises(RemoteProblem, match=r"kept copy /var/lib/migrationhub/identity/\d+ of /etc/hostname is gone"):
        identity.undo(connection, record)
    connection.close()
