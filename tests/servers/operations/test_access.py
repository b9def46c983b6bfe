"""Our access is removed, proven, and a try after one that was cut off ends as well."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from servers.models import Credential, HostKey, Run, Server
from servers.operations.access import RemoveAccess
from servers.operations.base import Job
from servers.progress import State
from servers.remote.access import user_data
from servers.remote.base import AuthenticationFailed, RemoteProblem
from servers.remote.ssh import Pool
from tests import factories
from tests.fixtures_lab import ProcessLab

pytestmark = [pytest.mark.lab, pytest.mark.django_db]


@pytest.fixture
def target(process_lab: ProcessLab, process_host: Any) -> Server:
    script = user_data(process_lab.public_key, manager="supervisord")
    host = process_host("access-vm", user_data=script, authorized_key="")
    server = factories.make_server(
        host.name,
        accepted=False,
        role=Server.Role.TARGET,
        address=host.endpoint.address,
        port=host.endpoint.port,
        manager="supervisord",
        directory=host.endpoint.directory,
        credential=factories.make_credential(
            kind=Credential.Kind.KEY, username=host.endpoint.username, secret=process_lab.private_key, internal=True
        ),
    )
    for line in host.host_keys():
        kind, public = line.split()
        HostKey.objects.create(server=server, key_type=kind, public=public, fingerprint=kind, state="accepted")
    return server


def try_once(target: Server, **memo: Any) -> tuple[dict[str, Any], Any]:
    number = 1 + Run.objects.filter(work_key="m1.remove").count()
    run = factories.make_run("remove_access", work_key="m1.remove", number=number, parameters={"target": target.pk})
    pool = Pool()
    try:
        return RemoveAccess().advance(Job(run, pool.connect, memo))
    finally:
        pool.close()
        Run.objects.filter(pk=run.pk).update(state="failed", finished_at=timezone.now())


def test_a_second_try_after_a_removal_that_nobody_heard_of(target: Server) -> None:
    memo, progress = try_once(target)
    assert "asked" in memo and progress.state == State.RUNNING  # and the worker died before it could store that
    memo, progress = try_once(target)
    assert "asked" in memo
    _, progress = try_once(target, **memo)
    assert progress.state == State.SUCCEEDED and "refuses our key" in progress.reason


def test_a_first_try_that_is_refused_proves_nothing(target: Server) -> None:
    Credential.objects.filter(server=target).update(username="nobody-of-this-name")
    with pytest.raises(AuthenticationFailed):
        try_once(target)


def test_silence_is_no_proof_in_a_later_try_either(target: Server, process_lab: ProcessLab) -> None:
    try_once(target)
    process_lab.backend.stop("access-vm")
    with pytest.raises(RemoteProblem):
        try_once(target)
