"""DNS against a real BIND on loopback: prerequisites, conflicts, adoption, keys, clocks, silence."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import dns.message
import dns.update
import pytest

from migrationhub.lib.findings import Level
from servers.remote import dns as module
from servers.remote.dns import DnsConflict, DnsProblem, DnsResult, RecordSet, TsigKey

pytestmark = pytest.mark.lab

ZONE = "shop.test"
SECRET = base64.b64encode(b"s" * 32).decode()
KEY = TsigKey("hub", SECRET)
HOST = "127.0.0.1"

CONFIG = """
options {{ directory "{dir}"; pid-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; notify no; managed-keys-directory "{dir}"; }};
controls {{ }};
key "hub" {{ algorithm hmac-sha256; secret "{secret}"; }};
key "other" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "shop.test" {{ type master; file "{dir}/shop.zone"; allow-update {{ key "hub"; }}; }};
zone "fixed.test" {{ type master; file "{dir}/fixed.zone"; }};
"""
RECORDS = """$TTL 60
@ SOA ns hostmaster 1 60 60 600 60
@ NS ns
ns A 127.0.0.1
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A BIND of our own; every test takes names of its own."""
    if shutil.which("named", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        missing = pytest.fail if os.environ.get("MIGRATIONHUB_REQUIRE_ALL") == "1" else pytest.skip
        missing("these tests need named (bind9)")
    directory, port = tmp_path_factory.mktemp("named"), free_port()
    lines = RECORDS + "alias CNAME real\nreal A 192.0.2.9\nslow 3600 A 192.0.2.9\n*.apps A 192.0.2.60\n"
    (directory / "shop.zone").write_text(lines)
    (directory / "fixed.zone").write_text(RECORDS + "db A 192.0.2.1\n")
    config = directory / "named.conf"
    config.write_text(CONFIG.format(dir=directory, port=port, secret=SECRET))
    command = ["named", "-f", "-c", str(config), "-n", "1"]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-g"], stdout=log, stderr=log, env=environment)
    try:
        for _ in range(100):
            try:
                module.look_up(HOST, ZONE, "ns.shop.test", "A", port=port, timeout=0.5)
                break
            except DnsProblem:
                assert process.poll() is None, (directory / "log").read_text()
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def now(port: int, name: str, rtype: str = "A") -> RecordSet:
    return module.look_up(HOST, ZONE, name, rtype, port=port)


def put(port: int, name: str, *values: str, rtype: str = "A", ttl: int = 60) -> RecordSet:
    """The record as somebody else would have set it."""
    module.change(HOST, port, KEY, ZONE, name, rtype, now(port, name, rtype), values, ttl)
    return now(port, name, rtype)


def change(port: int, old: RecordSet, *new: str, key: TsigKey | None = KEY, **options: float) -> DnsResult:
    return module.change(HOST, port, key, ZONE, old.name, old.rtype, old, new, 30, **options)


def test_change_keeps_the_old_record_and_undo_brings_it_back(port: int) -> None:
    old = put(port, "db.shop.test", "192.0.2.1", "192.0.2.2", ttl=77)
    result = change(port, old, "192.0.2.50")
    assert not result.adopted
    assert now(port, "db.shop.test") == RecordSet("db.shop.test", "A", ("192.0.2.50",), 30)
    stored = DnsResult.from_dict(result.as_dict())
    assert stored == result
    module.undo(HOST, port, KEY, stored)
    assert now(port, "db.shop.test") == RecordSet("db.shop.test", "A", ("192.0.2.1", "192.0.2.2"), 77)


def test_new_record_is_created_and_undo_deletes_it(port: int) -> None:
    result = change(port, now(port, "fresh.shop.test"), "192.0.2.50")
    assert now(port, "fresh.shop.test").values == ("192.0.2.50",)
    module.undo(HOST, port, KEY, result)
    assert now(port, "fresh.shop.test").values == ()


def test_repeated_change_is_adopted(port: int) -> None:
    old = put(port, "twice.shop.test", "192.0.2.1")
    change(port, old, "192.0.2.50")
    again = change(port, old, "192.0.2.50")
    assert again.adopted
    assert again.old == old


def test_record_changed_by_somebody_else_is_a_conflict_naming_what_is_there(port: int) -> None:
    old = put(port, "theirs.shop.test", "192.0.2.1")
    put(port, "theirs.shop.test", "192.0.2.77")
    with pytest.raises(DnsConflict, match=r"recorded as 192\.0\.2\.1 .* now it is 192\.0\.2\.77") as caught:
        change(port, old, "192.0.2.50")
    assert caught.value.found.values == ("192.0.2.77",)
    assert now(port, "theirs.shop.test").values == ("192.0.2.77",)


def test_prerequisite_refuses_a_change_that_comes_between_look_and_update(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(port, "race.shop.test", "192.0.2.1")
    real, first = module.look_up, [old]

    def stale(*args: object, **options: object) -> RecordSet:
        return first.pop() if first else real(*args, **options)  # type: ignore[arg-type]

    put(port, "race.shop.test", "192.0.2.77")
    monkeypatch.setattr(module, "look_up", stale)
    with pytest.raises(DnsConflict):
        change(port, old, "192.0.2.50")
    assert real(HOST, ZONE, "race.shop.test", "A", port=port).values == ("192.0.2.77",)


def test_name_that_appeared_in_between_is_not_overwritten(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    absent, real = now(port, "appears.shop.test"), module.look_up
    put(port, "appears.shop.test", "192.0.2.77")
    first = [absent]
    monkeypatch.setattr(module, "look_up", lambda *a, **o: first.pop() if first else real(*a, **o))
    with pytest.raises(DnsConflict, match=r"recorded as no record"):
        change(port, absent, "192.0.2.50")


def test_undo_refuses_when_the_new_record_was_changed_since(port: int) -> None:
    result = change(port, put(port, "later.shop.test", "192.0.2.1"), "192.0.2.50")
    put(port, "later.shop.test", "192.0.2.77")
    with pytest.raises(DnsConflict):
        module.undo(HOST, port, KEY, result)


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        (TsigKey("nobody", SECRET), "dns.badkey", "does not know a TSIG key “nobody”"),
        (TsigKey("hub", base64.b64encode(b"w" * 32).decode()), "dns.badsig", "refuses the signature"),
        (TsigKey("other", SECRET), "dns.refused", "REFUSED"),
        (None, "dns.refused", "REFUSED"),
        (TsigKey("hub", "not base64!"), "dns.key", "base64"),
        (TsigKey("hub", SECRET, "hmac-rot13"), "dns.key", "hmac-rot13"),
    ],
)
def test_wrong_key_is_a_sentence_without_the_secret(port: int, key: TsigKey | None, code: str, words: str) -> None:
    with pytest.raises(DnsProblem) as caught:
        change(port, now(port, "key.shop.test"), "192.0.2.50", key=key)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert caught.value.act
    if key:
        assert key.secret not in str(caught.value) + repr(caught.value) + repr(key)
    assert now(port, "key.shop.test").values == ()


def test_clock_skew_is_named_with_its_size(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dns.update.UpdateMessage.to_wire
    absent = now(port, "clock.shop.test")

    def an_hour_late(self: dns.update.UpdateMessage, *args: object, **options: object) -> bytes:
        late = time.time() - 3600
        with monkeypatch.context() as patch:
            patch.setattr(dns.message.time, "time", lambda: late)
            return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dns.update.UpdateMessage, "to_wire", an_hour_late)
    with pytest.raises(DnsProblem, match=r"differ by (3599|360\d) s") as caught:
        change(port, absent, "192.0.2.50")
    assert caught.value.code == "dns.clock"


def test_zone_that_is_not_served_and_zone_that_is_fixed(port: int) -> None:
    with pytest.raises(DnsProblem, match=r"REFUSED|not authoritative"):
        module.look_up(HOST, "elsewhere.test", "a.elsewhere.test", "A", port=port)
    old = module.look_up(HOST, "fixed.test", "db.fixed.test", "A", port=port)
    with pytest.raises(DnsProblem, match="REFUSED"):
        module.change(HOST, port, KEY, "fixed.test", "db.fixed.test", "A", old, ["192.0.2.50"])


def test_dead_and_silent_servers_are_told_apart_and_may_be_tried_again() -> None:
    with pytest.raises(DnsProblem) as dead:
        module.look_up(HOST, ZONE, "db.shop.test", "A", port=free_port(), timeout=0.5)
    assert dead.value.code in ("dns.unreachable", "dns.timeout")
    assert not dead.value.lasting
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((HOST, 0))
        with pytest.raises(DnsProblem, match=r"no answer within 0\.5 s") as silent:
            module.look_up(HOST, ZONE, "db.shop.test", "A", port=deaf.getsockname()[1], timeout=0.5)
    assert not silent.value.lasting


def test_lost_answer_is_adopted_by_the_next_try(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server made the change but the hub never heard: a relay swallows the answer."""
    old = put(port, "lost.shop.test", "192.0.2.1")
    relay = socket.create_server((HOST, 0))

    def swallow() -> None:
        client, _ = relay.accept()
        with client, socket.create_connection((HOST, port)) as upstream:
            upstream.sendall(client.recv(65536))
            upstream.recv(65536)

    thread = threading.Thread(target=swallow)
    thread.start()
    real = module.send_update

    def through_relay(server: str, _: int, *rest: object) -> object:
        return real(server, relay.getsockname()[1], *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "send_update", through_relay)
    with pytest.raises(DnsProblem) as caught:
        change(port, old, "192.0.2.50", timeout=3)
    thread.join(5)
    relay.close()
    assert caught.value.code == "dns.unreachable"
    assert not caught.value.lasting
    monkeypatch.setattr(module, "send_update", real)
    assert change(port, old, "192.0.2.50").adopted


def test_alias_is_a_blocking_finding(port: int) -> None:
    plan = module.plan_change(HOST, port, ZONE, "alias.shop.test", "A", ["192.0.2.50"])
    assert [(finding.level, finding.code) for finding in plan.findings] == [(Level.BLOCKING, "dns.alias")]
    assert "real.shop.test" in plan.findings[0].act


def test_alias_itself_can_be_changed(port: int) -> None:
    old = put(port, "www.shop.test", "old.shop.test.", rtype="CNAME")
    change(port, old, "new.shop.test.")
    assert now(port, "www.shop.test", "CNAME").values == ("new.shop.test.",)


def test_plan_warns_of_a_long_ttl_and_names_wrong_values(port: int) -> None:
    plan = module.plan_change(HOST, port, ZONE, "slow.shop.test", "A", ["192.0.2.50"])
    assert plan.old.values == ("192.0.2.9",)
    assert [finding.code for finding in plan.findings] == ["dns.change", "dns.ttl"]
    wrong = module.plan_change(HOST, port, ZONE, "slow.shop.test", "A", ["192.0.2.500"])
    assert wrong.findings[0].code == "dns.value"
    outside = module.plan_change(HOST, port, ZONE, "db.other.test", "A", ["192.0.2.50"])
    assert outside.findings[0].code == "dns.name"


def test_proof_needs_every_server(port: int) -> None:
    change(port, put(port, "proof.shop.test", "192.0.2.1"), "192.0.2.50")
    both = [(HOST, port), (HOST, free_port())]
    assert module.proven(both[:1], ZONE, "proof.shop.test", "A", ["192.0.2.50"]).passed
    assert not module.proven(both[:1], ZONE, "proof.shop.test", "A", ["192.0.2.1"]).passed
    half = module.proven(both, ZONE, "proof.shop.test", "A", ["192.0.2.50"], timeout=0.5)
    assert not half.passed
    assert [finding.level for finding in half.findings] == [Level.READY, Level.BLOCKING]
    assert not module.proven([], ZONE, "proof.shop.test", "A", ["192.0.2.50"]).passed


def test_a_name_that_a_wildcard_answers_gets_its_own_record_and_loses_it_again(port: int) -> None:
    name = "crm.apps.shop.test"
    assert module.plan_change(HOST, port, ZONE, name, "A", ["192.0.2.50"]).findings[0].level == Level.READY
    old = now(port, name)
    assert old.values == ("192.0.2.60",)
    result = DnsResult.from_dict(change(port, old, "192.0.2.50").as_dict())
    assert now(port, name).values == ("192.0.2.50",) and now(port, "other.apps.shop.test") != now(port, name)
    assert change(port, result.old, "192.0.2.50").adopted
    module.undo(HOST, port, KEY, result)
    assert now(port, name).values == ("192.0.2.60",)
    assert change(port, result.old, "192.0.2.51").old.wildcard, "nothing of its own was left behind"


def test_plan_warns_of_others_behind_the_name_and_of_the_other_family(port: int) -> None:
    put(port, "web.shop.test", "192.0.2.1", "192.0.2.2")
    put(port, "web.shop.test", "2001:db8::1", rtype="AAAA")
    plan = module.plan_change(HOST, port, ZONE, "web.shop.test", "A", ["192.0.2.50"])
    told = {finding.code: finding.text for finding in plan.findings if finding.level == Level.WARNING}
    assert set(told) == {"dns.several", "dns.family"}
    assert (
        "2 A records: 192.0.2.1, 192.0.2.2" in told["dns.several"] and "AAAA record 2001:db8::1" in told["dns.family"]
    )
    same = module.plan_change(HOST, port, ZONE, "web.shop.test", "AAAA", ["2001:db8::1"])
    assert [finding.code for finding in same.findings] == ["dns.same", "dns.family"]
