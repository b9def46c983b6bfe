"""Numbers, addresses and hosts from outside."""

from __future__ import annotations

import pytest

from migrationhub.lib.reading import is_host, split_url, whole


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("42", 42), ("9" * 18, int("9" * 18)), ("٣", 3)])
def test_a_whole_number_is_read(text: str, number: int) -> None:
    assert whole(text) == number


@pytest.mark.parametrize("text", ["", "²", "-1", "1.0", " 1", "x", "9" * 19, "9" * 5000])
def test_what_is_no_whole_number_or_too_large_for_a_row_is_none(text: str) -> None:
    assert whole(text) is None


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://vme\uff0fx", "https://h:99999999", "https://h:abc", "https://h:²", "https://h:0"]
)
def test_an_address_that_cannot_be_split_has_no_parts(url: str) -> None:
    assert (split_url(url).scheme, split_url(url).hostname) == ("", None)


def test_an_address_is_split() -> None:
    parts = split_url("https://[::1]:8443/path?a=b")
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("https", "::1", 8443, "/path")


@pytest.mark.parametrize("name", ["vme", "vme.example.com.", "my_vme.lab", "10.0.0.1", "::1", "ünï.example", "a" * 63])
def test_a_host_can_be_looked_up(name: str) -> None:
    assert is_host(name)


@pytest.mark.parametrize(
    "name", ["", "a..b", ".a", "a b", "-a", "*", "a" * 64, "ü" * 63, ("a" * 60 + ".") * 5, "a\x00b"]
)
def test_what_no_resolver_takes_is_no_host(name: str) -> None:
    assert not is_host(name)
