"""One appliance over HTTPS: tokens, time-outs, retries where a repeat is safe, paging, errors as sentences."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from migrationhub.lib.reading import split_url
from servers.platforms.base import PlatformAccess, PlatformProblem
from servers.platforms.vme import answers, transport
from servers.platforms.vme.answers import Ambiguous, Json, Refused, Unavailable
from servers.platforms.vme.tokens import Token, password_grant, refresh_grant, token_from

TIMEOUT = (5.0, 30.0)  # connect, read; seconds
PAGE = 100
PAGES = 200  # a list longer than this is not a list of ours
READS = 3  # tries of one GET within a call
LONGEST_WAIT = 60.0


class Client:
    """Requests to one appliance. Safe to share between threads."""

    def __init__(
        self,
        access: PlatformAccess,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> None:
        self.access = access
        self.base = transport.base_of(access.url)
        self.clock = clock
        self._sleep = sleep
        self._timeout = timeout
        self._verify = transport.trust(self, access)
        self._token: Token | None = None
        self._spent: list[str] = []  # tokens of before, to be scrubbed from messages as well
        self._lock = threading.RLock()
        self._quiet_until = 0.0
        self._setbacks = 0
        self._session = self._new_session()

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # a .netrc would replace our Authorization header, a variable our CA bundle
        session.verify = self._verify
        session.headers["Accept"] = "application/json"
        return session

    # -- what others call -----------------------------------------------------------------------------------

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, anonymous: bool = False) -> Json:
        """One answer as JSON. Repeated a few times where the appliance is only briefly unwell."""
        for attempt in range(1, READS + 1):
            try:
                return self._call("GET", path, params=params, anonymous=anonymous)
            except Unavailable as problem:
                if attempt == READS or problem.code in ("platform.wait", "platform.busy", "platform.unreachable"):
                    raise
                self._sleep(min(problem.wait, 0.5 * attempt))
        raise AssertionError("unreachable: the last try raises")

    def all(self, path: str, key: str, params: Mapping[str, Any] | None = None) -> list[Json]:
        """Every item of a list, over all its pages (`meta` says how many there are)."""
        found: list[Json] = []
        for _ in range(PAGES):
            body = self.get(path, {**(params or {}), "max": PAGE, "offset": len(found)})
            page = answers.items(body.get(key))
            found += page
            total = answers.number(answers.obj(body.get("meta")).get("total"), default=-1)
            if not page or total < 0 or len(found) >= total:
                return found
        raise PlatformProblem(
            f"{self.access.name} lists more than {PAGE * PAGES} entries at {path}.",
            "Narrow the account's rights to what is migrated.",
            code="platform.answer",
        )

    def change(
        self,
        method: str,
        path: str,
        *,
        work_key: str,
        params: Mapping[str, Any] | None = None,
        body: Json | None = None,
    ) -> Json:
        """One changing request, sent once.

        Raises `Refused` (nothing was done), `Unavailable` (nothing was done, try later) or `Ambiguous` (the
        outside must be asked before it is sent again).
        """
        return self._call(method, path, params=params, body=body, work_key=work_key)

    def scrub(self, text: str) -> str:
        """Text without password and tokens: appliances echo them in errors."""
        token = self._token
        secrets = [self.access.password, *self._spent, *((token.access, token.refresh) if token else ())]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "…")
        return text

    # -- one exchange ---------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Json | None = None,
        work_key: str = "",
        anonymous: bool = False,
    ) -> Json:
        self._respect_wait()
        headers = {"X-Request-Id": work_key.encode("ascii", "replace").decode()} if work_key else {}
        for last in (False, True):
            token = None if anonymous else self._usable_token()
            if token:
                headers["Authorization"] = f"Bearer {token.access}"
            answer = self._exchange(method, path, params=params, json=body, headers=headers)
            if answer.status_code != 401 or anonymous or last:
                break
            self._renew(token)  # a 401 did nothing, so once more is safe for any request
        return self._read(answer, method, path)

    def _exchange(self, method: str, path: str, **request: Any) -> requests.Response:
        changing = method != "GET"
        # A kept connection that the far side just closed looks like a cut answer; a new one tells them apart.
        session = self._new_session() if changing else self._session
        try:
            return session.request(method, self.base + path, timeout=self._timeout, allow_redirects=False, **request)
        except requests.exceptions.SSLError as error:
            raise PlatformProblem(
                f"The certificate of {self.access.name} ({self.base}) could not be verified:"
                f" {transport.reason_of(error)}.",
                "Enter the CA that signed it as the platform's CA bundle, and use the name that it was issued for.",
                code="platform.tls",
            ) from None
        except requests.exceptions.RequestException as error:
            raise self._unreached(error, method, path, changing) from None
        finally:
            if changing:
                session.close()

    def _unreached(self, error: Exception, method: str, path: str, changing: bool) -> PlatformProblem:
        self._set_back()
        unsent = isinstance(error, requests.exceptions.ConnectTimeout) or transport.never_connected(error)
        if unsent:
            return Unavailable(
                f"{self.access.name} cannot be reached at {self.base}: {transport.reason_of(error)}.",
                "It is asked again for a while; if that does not help, check the address, the network and whether the"
                " appliance is up, then retry.",
                code="platform.unreachable",
                wait=5.0,
            )
        what = f"{self.access.name} did not finish its answer to {method} {path}: {transport.reason_of(error)}."
        if changing:
            return Ambiguous(what, "It is looked up whether it was done before it is asked again.", wait=5.0)
        act = "It is asked again for a while; if that does not help, look at the appliance, then retry."
        return Unavailable(what, act, wait=1.0)

    def _read(self, answer: requests.Response, method: str, path: str) -> Json:
        status, changing = answer.status_code, method != "GET"
        if 300 <= status < 400:
            target = split_url(answer.headers.get("Location", "")).netloc or "another page"
            raise PlatformProblem(
                f"{self.access.name} sends us on to {target} (HTTP {status}).",
                "Enter the appliance's own address, as its users reach it.",
                code="platform.redirect",
            )
        body, page = transport.json_of(answer), ""
        if body is None:
            page = answers.html_title(answer.text[:4096])
        if status == 429:
            wait = self._set_back(transport.seconds(answer.headers.get("Retry-After")))
            raise Unavailable(self._said(body, page, status), answers.STATUS_ACTS[429], code="platform.busy", wait=wait)
        if status >= 500:
            wait = self._set_back(transport.seconds(answer.headers.get("Retry-After")) if status == 503 else None)
            raise (Ambiguous if changing else Unavailable)(
                self._said(body, page, status),
                answers.STATUS_ACTS.get(status, answers.STATUS_ACTS[500]),
                code="platform.error",
                wait=wait,
            )
        self._setbacks = 0
        if body is None and status < 400:
            raise (Ambiguous if changing else Unavailable)(
                self._said(None, page, status), "Check that the address is that of VME.", code="platform.answer"
            )
        if body is None:  # a proxy's page: its 404 says nothing of what the appliance has
            raise Refused(
                self._said(None, page, status),
                answers.PROXY_ACT,
                code="platform.answer",
                status=0,
                fields={},
            )
        if status >= 400 or body.get("success") is False:
            raise self._refusal(body, status)
        return body

    def _said(self, body: Json | None, page: str, status: int) -> str:
        """What came back, for people: HPE's own words, or that it was no JSON at all."""
        if body is not None:
            words = self.scrub(answers.own_words(body)) or "no reason given"
            return f"{self.access.name} answered HTTP {status}: {words.rstrip('.')}."
        named = f" (“{self.scrub(page)}”)" if page else ""
        return f"{self.access.name} answered HTTP {status} with a page{named} instead of JSON."

    def _refusal(self, body: Json, status: int) -> Refused:
        fields = {name: self.scrub(text) for name, text in answers.field_messages(body).items()}
        code = {401: "platform.login", 403: "platform.permission", 404: "platform.answer", 409: "platform.conflict"}
        missing = answers.says_missing(body, status)
        return Refused(
            self._said(body, "", status),
            answers.PROXY_ACT if status == 404 and not missing else answers.act_for(status, fields),
            code="platform.missing" if missing else code.get(status, "platform.refused"),
            status=status,
            fields=fields,
        )

    # -- waiting: never slept through, only kept in mind --------------------------------------------------------

    def _respect_wait(self) -> None:
        left = self._quiet_until - self.clock()
        if left > 0:
            raise Unavailable(
                f"{self.access.name} asked us to slow down; it is asked again in {left:.0f} s.",
                "Nothing to do.",
                code="platform.wait",
                wait=left,
            )

    def _set_back(self, asked: float | None = None) -> float:
        """Seconds until the next try; the appliance's own wish (429, 503) holds for all requests."""
        self._setbacks += 1
        wait = min(LONGEST_WAIT, asked if asked is not None else 2.0 ** min(self._setbacks, 6))
        if asked is not None:
            self._quiet_until = self.clock() + wait
        return wait

    # -- tokens ---------------------------------------------------------------------------------------------

    def _usable_token(self) -> Token:
        with self._lock:
            if self._token is None or not self._token.usable(self.clock()):
                self._token = self._new_token(self._token)
            return self._token

    def _renew(self, refused: Token | None) -> None:
        with self._lock:
            if self._token is refused:  # else another thread has been here
                self._token = self._new_token(refused)

    def _new_token(self, old: Token | None) -> Token:
        if old:
            self._spent = [*self._spent, old.access, old.refresh][-8:]
            if old.refresh:
                try:
                    return self._grant(refresh_grant(old))
                except Refused:
                    pass  # the refresh token has ended too: the password is what remains
                except Unavailable as problem:
                    if problem.code in ("platform.wait", "platform.busy", "platform.unreachable"):
                        raise
                    # It does not come to terms with this refresh token; it may with the password.
        return self._grant(password_grant(self.access.username, self.access.password))

    def _grant(self, form: dict[str, str]) -> Token:
        for attempt in range(1, READS + 1):
            try:
                answer = self._exchange("POST", "/oauth/token", data=form)
                body = self._read(answer, "POST", "/oauth/token")
                break
            except Refused as problem:
                if form["grant_type"] == "password" and problem.status:
                    raise self._login_refused(problem) from None
                raise
            except Unavailable as problem:
                # Asking for a token twice harms nobody; HPE's own provider repeats on a 500 here.
                if attempt == READS or problem.code in ("platform.busy", "platform.unreachable"):
                    raise _unsent(problem) from None
                self._sleep(0.5 * attempt)
        token = token_from(body, self.clock)
        if token is None:
            raise PlatformProblem(
                f"{self.access.name} answered the log-in without a token.",
                "Check that the address is that of VME.",
                code="platform.answer",
            )
        return token

    def _login_refused(self, problem: Refused) -> Refused:
        return Refused(
            f"{self.access.name} refuses the log-in of “{self.access.username}”. {problem.text}",
            answers.STATUS_ACTS[401],
            code="platform.login",
            status=problem.status,
            fields=problem.fields,
        )


def _unsent(problem: Unavailable) -> Unavailable:
    """A failed log-in says nothing about the request that it was for: that one was never sent."""
    return Unavailable(problem.text, problem.act, code=problem.code, wait=problem.wait)
