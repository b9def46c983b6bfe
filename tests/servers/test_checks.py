"""What a person asks for outside a migration: a check's result is kept of what was asked, a key is decided once."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from migrationhub.audit.models import AuditEvent
from migrationhub.lib.findings import Finding, Level, Problem
from servers import checks
from servers.models import HostKey, Platform, Run, Server
from servers.operations import check
from servers.operations.base import Job
from servers.operations.check import PlatformCheck
from servers.progress import Progress, State
from servers.remote.hostkeys import FoundKey
from tests import factories as make

pytestmark = pytest.mark.django_db
Key = HostKey.State


class Vme:
    def check(self, spec: Any, network: str = "") -> list[Finding]:
        return [Finding(Level.READY, "vme.ready", "It may make instances.", "")]

    def version(self) -> str:
        return "8.0.1"


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setattr(check, "client_for", lambda kind, access: Vme())
    return make.make_platform(checked_at=None)


def look(run: Run) -> Progress:
    memo, progress = PlatformCheck().advance(Job(run, lambda endpoint: pytest.fail("no machine is asked")))
    Run.objects.filter(pk=run.pk).update(memo=memo)
    return progress


CHANGES: list[dict[str, Any]] = [{"url": "https://other.invalid"}, {"insecure": True}, {"ca_bundle": "another"}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("ends", ["succeeds", "fails"])
def test_what_was_found_at_the_old_url_is_not_said_of_the_new_one(
    platform: Platform, change: dict[str, Any], ends: str
) -> None:
    run = checks.request_platform_check(platform, user=None)
    progress = look(run) if ends == "succeeds" else Progress(state=State.FAILED, reason="No answer.", code="x")
    Platform.objects.filter(pk=platform.pk).update(**change)
    PlatformCheck().finish(Run.objects.get(pk=run.pk), progress)
    platform.refresh_from_db()
    assert (platform.checked_at, platform.findings, platform.build_version) == (None, [], "")
    run.refresh_from_db()
    assert "was changed during the check" in run.reason and "https://vme.invalid" in run.reason
    assert run.events.get().text == run.reason


def test_a_check_that_waited_asks_the_new_url_and_is_kept(platform: Platform) -> None:
    run = checks.request_platform_check(platform, user=None)
    Platform.objects.filter(pk=platform.pk).update(url="https://other.invalid")
    progress = look(run)
    PlatformCheck().finish(Run.objects.get(pk=run.pk), progress)
    platform.refresh_from_db()
    assert platform.checked_at is not None and platform.build_version == "8.0.1"


def test_a_check_from_before_the_url_was_kept_is_kept(platform: Platform) -> None:
    run = make.make_run("platform_check", parameters={"platform": platform.pk})
    PlatformCheck().finish(run, Progress(state=State.FAILED, reason="No answer.", code="x"))
    platform.refresh_from_db()
    assert platform.checked_at is not None and platform.findings[0]["text"] == "No answer."


# -- host keys --------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Server:
    return make.make_server("shop-db", accepted=False, address="10.0.0.1")


@pytest.fixture
def lena() -> User:
    return make.make_user("lena", first_name="Lena", last_name="Lead")


def a_key(server: Server, fingerprint: str, state: str = Key.OFFERED) -> HostKey:
    return HostKey.objects.create(
        server=server, key_type="ssh-ed25519", public=fingerprint, fingerprint=fingerprint, state=state
    )


def states(server: Server) -> dict[str, str]:
    return dict(server.host_keys.values_list("fingerprint", "state"))


def test_a_key_that_somebody_refused_is_not_accepted_by_an_older_page(server: Server, lena: User) -> None:
    right, wrong = a_key(server, "right", Key.ACCEPTED), a_key(server, "wrong")
    checks.refuse_host_key(wrong.pk, user=lena)
    with pytest.raises(Problem, match=r"wrong of shop-db was refused by Lena Lead in the meantime") as told:
        checks.accept_host_key(wrong.pk, user=make.make_user())
    assert "known_hosts" in told.value.act
    assert states(server) == {right.fingerprint: Key.ACCEPTED, wrong.fingerprint: Key.REFUSED}
    assert AuditEvent.objects.filter(verb="hostkey.accepted").count() == 0
    assert not Run.objects.exists(), "nothing is checked either"


def test_nor_is_an_accepted_one_refused(server: Server, lena: User) -> None:
    key = a_key(server, "k")
    checks.accept_host_key(key.pk, user=lena)
    with pytest.raises(Problem, match="was accepted by Lena Lead"):
        checks.refuse_host_key(key.pk, user=make.make_user())
    assert states(server) == {"k": Key.ACCEPTED}


def test_a_decision_between_our_look_and_our_write_stands(
    server: Server, lena: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = a_key(server, "right", Key.ACCEPTED), a_key(server, "wrong")
    read = HostKey.objects.select_related("server").get(pk=wrong.pk)
    checks.refuse_host_key(wrong.pk, user=lena)
    monkeypatch.setattr(checks, "_key", lambda key_id: read)
    with pytest.raises(Problem, match="was refused by Lena Lead"):
        checks.accept_host_key(wrong.pk, user=make.make_user())
    assert states(server)[right.fingerprint] == Key.ACCEPTED


@pytest.mark.parametrize("verb", [checks.accept_host_key, checks.refuse_host_key])
def test_a_key_that_moved_to_the_new_server_is_nobodys_to_decide(server: Server, lena: User, verb: Any) -> None:
    moved = a_key(server, "m", Key.MOVED)
    with pytest.raises(Problem, match="went from shop-db to its new server"):
        verb(moved.pk, user=lena)
    assert states(server) == {"m": Key.MOVED}


def named(server: Server, monkeypatch: pytest.MonkeyPatch, *fingerprints: str, user: User) -> str:
    keys = [FoundKey("ssh-ed25519", mark, mark) for mark in fingerprints]
    monkeypatch.setattr(checks.hostkeys, "parse_known_hosts", lambda text, names: {"10.0.0.1": keys, "shop-db": keys})
    [(_, words)] = checks.accept_known_hosts([server], "a text", user=user)
    return words


def test_two_different_keys_of_one_type_are_refused_in_words(
    server: Server, lena: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = named(server, monkeypatch, "k1", "k2", user=lena)
    assert "2 different ssh-ed25519 keys for shop-db: k1, k2. None is accepted." in words
    assert states(server) == {}
    assert named(server, monkeypatch, "k1", "k1", user=lena) == "Accepted: k1.", "the same one twice is one"


@pytest.mark.parametrize("state", [Key.REFUSED, Key.RETIRED, Key.ACCEPTED, Key.OFFERED])
def test_a_line_of_known_hosts_takes_an_earlier_word_back(
    server: Server, lena: User, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    a_key(server, "k1", state)
    assert named(server, monkeypatch, "k1", user=lena) == "Accepted: k1."
    assert states(server) == {"k1": Key.ACCEPTED}


def test_but_not_for_a_key_that_moved(server: Server, lena: User, monkeypatch: pytest.MonkeyPatch) -> None:
    a_key(server, "k1", Key.MOVED)
    assert "went from shop-db to its new server" in named(server, monkeypatch, "k1", user=lena)
    assert states(server) == {"k1": Key.MOVED}
