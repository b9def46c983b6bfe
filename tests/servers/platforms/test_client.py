"""The HTTP client against the stand-in: TLS, tokens, errors, waits, paging."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import responses
from requests import PreparedRequest

from servers.platforms import platform
from servers.platforms.base import PlatformAccess, PlatformProblem
from servers.platforms.vme.answers import Ambiguous, Refused, Unavailable
from servers.platforms.vme.client import Client
from servers.platforms.vme.version import build_version
from tests.lab.vme.standin import StandIn


class Clock:
    """A clock that a test moves; sleeping moves it as well."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client_of(standin: StandIn, clock: Clock | None = None, **access: object) -> Client:
    clock = clock or Clock()
    return Client(standin.access(**access), clock=clock, sleep=clock.sleep, timeout=(2.0, 5.0))


# -- TLS and address ------------------------------------------------------------------------------------------


def test_another_ca_is_refused_with_what_to_do(standin: StandIn, make_standin: Callable[..., StandIn]) -> None:
    other = make_standin(name="other")
    client = client_of(standin, ca_bundle=other.ca.read_text())
    with pytest.raises(PlatformProblem) as caught:
        client.get("/api/whoami")
    assert caught.value.code == "platform.tls" and caught.value.lasting
    assert "certificate" in caught.value.text and "CA bundle" in caught.value.act


def test_without_its_ca_the_appliance_is_not_trusted(standin: StandIn) -> None:
    with pytest.raises(PlatformProblem, match="could not be verified"):
        client_of(standin, ca_bundle="").get("/api/whoami")


def test_insecure_is_a_choice_by_name(standin: StandIn) -> None:
    assert client_of(standin, ca_bundle="", insecure=True).get("/api/whoami")["user"]["username"]


def test_the_ca_bundle_lies_in_a_private_file_only_while_it_is_used(standin: StandIn) -> None:
    client = client_of(standin)
    file = Path(str(client._verify))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    del client
    assert not file.exists()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://vme.example.com", "platform.url"),
        ("vme.example.com", "platform.url"),
        ("https://me:secret@vme.example.com", "platform.url"),
    ],
)
def test_an_address_must_be_https_and_nothing_else(url: str, code: str) -> None:
    with pytest.raises(PlatformProblem) as caught:
        Client(PlatformAccess("VME", url, "u", "p"))
    assert caught.value.code == code and "secret" not in str(caught.value)


def test_a_ca_bundle_that_is_no_certificate_is_named(standin: StandIn) -> None:
    with pytest.raises(PlatformProblem, match="no PEM certificate"):
        client_of(standin, ca_bundle="not a certificate")


def test_a_slash_at_the_end_of_the_address_does_no_harm(standin: StandIn) -> None:
    assert client_of(standin, url=f"{standin.url}/").get("/api/whoami")["user"]


def test_redirects_are_not_followed() -> None:
    client = Client(PlatformAccess("VME", "https://vme.example.com", "u", "p"))
    with responses.RequestsMock() as http:
        http.post("https://vme.example.com/oauth/token", status=302, headers={"Location": "https://sso.example/x?t=1"})
        with pytest.raises(PlatformProblem) as caught:
            client.get("/api/whoami")
    assert caught.value.code == "platform.redirect" and "sso.example" in caught.value.text


def test_a_closed_port_is_unreachable_and_may_pass(standin: StandIn) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = client_of(standin, url=f"https://127.0.0.1:{port}")
    with pytest.raises(Unavailable) as caught:
        client.change("POST", "/api/instances", work_key="k", body={})
    assert caught.value.code == "platform.unreachable" and not caught.value.lasting
    assert not isinstance(caught.value, Ambiguous) and "Connection refused" in caught.value.text


# -- tokens ---------------------------------------------------------------------------------------------------


def tokens_issued(standin: StandIn) -> int:
    return len(standin.appliance.store.state["tokens"])


def test_a_token_that_ends_in_the_middle_is_refreshed_once(standin: StandIn) -> None:
    client = client_of(standin)
    client.get("/api/whoami")
    first = client._token
    standin.appliance.tokens.expire()
    assert client.get("/api/groups")["groups"]
    assert client._token != first and tokens_issued(standin) == 1  # the refresh took the old one's place


def test_a_token_near_its_end_is_refreshed_beforehand(standin: StandIn) -> None:
    clock = Clock()
    client = client_of(standin, clock)
    client.get("/api/whoami")
    assert client._token is not None
    first = client._token.access
    clock.now = client._token.expires_at - 10
    client.get("/api/whoami")
    assert client._token.access != first


def test_where_the_refresh_token_ended_too_the_password_is_used(standin: StandIn) -> None:
    client = client_of(standin)
    client.get("/api/whoami")
    with standin.appliance.store.lock:
        standin.appliance.store.state["tokens"].clear()
    assert client.get("/api/whoami")["user"]["username"] == client.access.username


def test_an_appliance_that_fails_over_a_refresh_token_is_given_the_password() -> None:
    clock = Clock()
    client = Client(PlatformAccess("VME", "https://vme.example.com", "u", "p"), clock=clock, sleep=clock.sleep)
    grants: list[str] = []

    def grant(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
        grants.append(dict(parse_qsl(str(request.body)))["grant_type"])
        if grants[-1] == "refresh_token":
            return 500, {}, "{}"
        return 200, {}, json.dumps({"access_token": f"a{len(grants)}", "refresh_token": "r", "expires_in": 300})

    with responses.RequestsMock() as http:
        http.add_callback("POST", "https://vme.example.com/oauth/token", grant)
        http.get("https://vme.example.com/api/whoami", json={"user": {"username": "u"}})
        client.get("/api/whoami")
        clock.now += 299
        assert client.get("/api/whoami")["user"]
    assert grants[0] == grants[-1] == "password" and "refresh_token" in grants


def test_a_changing_request_survives_an_expired_token_and_is_sent_once(standin: StandIn) -> None:
    client = client_of(standin)
    client.get("/api/whoami")
    standin.appliance.tokens.expire()
    with pytest.raises(Refused) as caught:
        client.change("POST", "/api/instances", work_key="k", body={"instance": {"name": "x"}})
    assert caught.value.status == 400
    assert [entry["act"] for entry in standin.journal] == ["refused"]


def test_a_wrong_password_says_whose_and_not_which(standin: StandIn) -> None:
    with pytest.raises(Refused) as caught:
        client_of(standin, password="wrong-Password-1").get("/api/whoami")
    assert caught.value.code == "platform.login" and caught.value.lasting
    assert "svc-migrationhub" in caught.value.text and "wrong-Password-1" not in str(caught.value)


def test_a_token_that_the_appliance_echoes_is_scrubbed(standin: StandIn) -> None:
    client = client_of(standin)
    client.get("/api/whoami")
    token = client._token
    assert token is not None
    standin.order({"kind": "refused", "path": "/api/groups", "msg": f"Invalid access token: {token.access}"})
    with pytest.raises(Refused) as caught:
        client.get("/api/groups")
    assert token.access not in str(caught.value) and "…" in caught.value.text
    assert token.access not in repr(token) and client.access.password not in repr(client.access)


# -- errors ---------------------------------------------------------------------------------------------------


def test_success_false_with_200_is_an_error(standin: StandIn) -> None:
    standin.order({"kind": "refused", "path": "/api/groups", "msg": "Group list is broken"})
    with pytest.raises(Refused, match="Group list is broken") as caught:
        client_of(standin).get("/api/groups")
    assert caught.value.status == 200 and caught.value.lasting


def test_the_fields_that_hpe_names_are_in_the_sentence_with_what_to_do(standin: StandIn) -> None:
    standin.order({"kind": "refused", "path": "/api/groups", "errors": {"networkInterfaces": "Invalid network"}})
    with pytest.raises(Refused) as caught:
        client_of(standin).get("/api/groups")
    assert "networkInterfaces: Invalid network" in caught.value.text
    assert "bound to the resource pool" in caught.value.act


def test_a_short_500_is_asked_again_and_a_long_one_is_told(standin: StandIn) -> None:
    clock = Clock()
    client = client_of(standin, clock)
    standin.order({"kind": "500", "path": "/api/groups", "times": 2})
    assert client.get("/api/groups")["groups"] and len(clock.slept) == 2
    standin.order({"kind": "500", "path": "/api/groups", "times": 99})
    with pytest.raises(Unavailable) as caught:
        client.get("/api/groups")
    assert not caught.value.lasting and "HTTP 500" in caught.value.text


def test_a_500_at_the_log_in_is_asked_again(standin: StandIn) -> None:
    standin.order({"kind": "500", "path": "/oauth/token", "times": 1})
    assert client_of(standin).get("/api/whoami")["user"]


def test_a_500_to_a_change_is_ambiguous_and_not_repeated(standin: StandIn) -> None:
    client = client_of(standin)
    standin.order({"kind": "500", "method": "POST", "path": "/api/instances$", "times": 1})
    with pytest.raises(Ambiguous):
        client.change("POST", "/api/instances", work_key="k", body={})
    assert standin.journal == []


def test_a_log_in_that_fails_does_not_make_a_change_ambiguous(standin: StandIn) -> None:
    standin.order({"kind": "500", "path": "/oauth/token", "times": 9})
    with pytest.raises(Unavailable) as caught:
        client_of(standin).change("POST", "/api/instances", work_key="k", body={})
    assert not isinstance(caught.value, Ambiguous)


def test_429_is_heeded_by_all_requests_until_its_time(standin: StandIn) -> None:
    clock = Clock()
    client = client_of(standin, clock)
    client.get("/api/whoami")
    standin.order({"kind": "429", "path": "/api/groups", "times": 1, "retry_after": 20})
    with pytest.raises(Unavailable, match="Slow down"):
        client.get("/api/groups")
    with pytest.raises(Unavailable) as caught:
        client.get("/api/zones")
    assert caught.value.code == "platform.wait" and 0 < caught.value.wait <= 20
    clock.now += 21
    assert client.get("/api/zones")["zones"]


def test_429_without_a_time_backs_off_further_each_time(standin: StandIn) -> None:
    client = client_of(standin)
    client.get("/api/whoami")
    standin.order({"kind": "429", "path": "/api/instances$", "times": 3})
    waits = []
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            client.change("POST", "/api/instances", work_key="k", body={})
        waits.append(caught.value.wait)
    assert waits == sorted(waits) and waits[0] < waits[-1]


def test_a_proxys_html_is_named_and_not_shown(standin: StandIn) -> None:
    standin.order({"kind": "html", "path": "/api/groups", "times": 9})
    with pytest.raises(Unavailable) as caught:
        client_of(standin).get("/api/groups")
    assert "a page (“502 Bad Gateway”) instead of JSON" in caught.value.text and "<html" not in str(caught.value)


def test_no_answer_in_time_to_a_change_is_ambiguous(standin: StandIn) -> None:
    client = Client(standin.access(), timeout=(2.0, 0.3))
    client.get("/api/whoami")
    standin.order({"kind": "slow", "delay": 1.0, "method": "POST", "path": "/api/instances$"})
    with pytest.raises(Ambiguous, match="no answer in time"):
        client.change("POST", "/api/instances", work_key="k", body={})


def test_a_kept_connection_that_the_appliance_closed_does_not_make_a_change_ambiguous(standin: StandIn) -> None:
    client = client_of(standin)
    client.get("/api/whoami")
    standin.restart()
    with pytest.raises(Refused):
        client.change("POST", "/api/instances", work_key="k", body={"instance": {"name": "x"}})


# -- paging and version -----------------------------------------------------------------------------------------


def test_lists_are_read_to_their_end() -> None:
    client = Client(PlatformAccess("VME", "https://vme.example.com", "u", "p"))
    with responses.RequestsMock() as http:
        http.post("https://vme.example.com/oauth/token", json={"access_token": "a", "expires_in": 999})
        for offset, size in ((0, 2), (2, 2), (4, 1)):
            http.get(
                "https://vme.example.com/api/groups",
                json={"groups": [{"id": offset + n} for n in range(size)], "meta": {"total": "5", "offset": offset}},
                match=[responses.matchers.query_param_matcher({"max": 100, "offset": offset})],
            )
        assert [one["id"] for one in client.all("/api/groups", "groups")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("total", [7, None])
def test_a_list_that_tells_a_wrong_total_or_none_ends_as_well(total: int | None) -> None:
    client = Client(PlatformAccess("VME", "https://vme.example.com", "u", "p"))
    with responses.RequestsMock(assert_all_requests_are_fired=False) as http:
        http.post("https://vme.example.com/oauth/token", json={"access_token": "a", "expires_in": 999})
        meta = {"total": total} if total else {}
        http.get("https://vme.example.com/api/groups", json={"groups": [{"id": 1}], "meta": meta})
        http.get(
            "https://vme.example.com/api/groups",
            json={"groups": [], "meta": meta},
            match=[responses.matchers.query_param_matcher({"max": 100, "offset": 1})],
        )
        assert client.all("/api/groups", "groups")[0] == {"id": 1}


def test_the_version_is_told_by_whoami_where_health_is_forbidden(standin: StandIn) -> None:
    client = client_of(standin)
    assert build_version(client) == standin.settings.version
    standin.order({"kind": "refused", "path": "/api/health", "times": 1, "msg": "Forbidden"})
    assert build_version(client) == standin.settings.version


def test_one_platform_per_access_keeps_its_token(standin: StandIn) -> None:
    access = standin.access()
    assert platform("vme", access) is platform("vme", standin.access())
    with pytest.raises(PlatformProblem, match="no kind of platform"):
        platform("vsphere", access)
