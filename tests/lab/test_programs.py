"""The applications' programs, where they do more than the hosts that run them show."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from migrationhub.lab import programs
from migrationhub.lab.verify import compare_trees

PROGRAMS = Path(programs.__file__).parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lab_{name}", PROGRAMS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def resolver() -> Iterator[Callable[..., str]]:
    """Starts a name server that gives one answer; its “address:port”."""
    open_sockets: list[socket.socket] = []

    def start(*records: str, rcode: int = dns.rcode.NOERROR) -> str:
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.bind(("127.0.0.1", 0))
        link.settimeout(5)
        open_sockets.append(link)

        def answer() -> None:
            wire, client = link.recvfrom(4096)
            question = dns.message.from_wire(wire)
            reply = dns.message.make_response(question)
            reply.set_rcode(rcode)
            reply.answer = [dns.rrset.from_text(*record.split()) for record in records]
            link.sendto(reply.to_wire(), client)  # with compressed names

        threading.Thread(target=answer, daemon=True).start()
        return f"127.0.0.1:{link.getsockname()[1]}"

    yield start
    for link in open_sockets:
        link.close()


def test_the_shop_finds_its_database_by_name(resolver: Callable[..., str]) -> None:
    shop = load("shop")
    assert shop.ask("db.shop.lab", resolver("db.shop.lab. 60 IN A 127.100.1.11")) == "127.100.1.11"
    chain = resolver("db.shop.lab. 60 IN CNAME vm7.shop.lab.", "vm7.shop.lab. 60 IN A 127.100.2.4")
    assert shop.ask("db.shop.lab.", chain) == "127.100.2.4"


def test_a_name_that_is_not_known_or_has_no_address_is_an_error(resolver: Callable[..., str]) -> None:
    shop = load("shop")
    with pytest.raises(OSError, match=r"does not know db\.shop\.lab \(DNS status 3\)"):
        shop.ask("db.shop.lab", resolver(rcode=dns.rcode.NXDOMAIN))
    with pytest.raises(OSError, match=r"has no address for db\.shop\.lab"):
        shop.ask("db.shop.lab", resolver('db.shop.lab. 60 IN TXT "x"'))
    with pytest.raises(OSError):
        shop.ask("db.shop.lab", "127.0.0.1:1", timeout=0.5)


def test_the_same_arguments_make_the_same_tree(tmp_path: Path) -> None:
    for side in ("a", "b"):
        subprocess.run([sys.executable, PROGRAMS / "maketree.py", tmp_path / side, "40"], check=True)
    verdict = compare_trees(tmp_path / "a", tmp_path / "b")
    differing = {kind for kind, count in verdict.counts.items() if count}
    assert differing <= {"mtime"}, str(verdict)  # of directories, links and the like
    # Again changes nothing.
    before = sorted(tmp_path.joinpath("a").rglob("*"))
    subprocess.run([sys.executable, PROGRAMS / "maketree.py", tmp_path / "a", "40"], check=True)
    assert sorted(tmp_path.joinpath("a").rglob("*")) == before


def test_churn_changes_in_every_way_and_stays_bounded(tmp_path: Path) -> None:
    churn = load("churn")
    (tmp_path / "old").write_bytes(bytes(5_000))
    changing = churn.Churn(tmp_path, seed=7)
    done = [changing.step() for _ in range(1_500)]
    assert {"add", "edit", "map", "rename", "delete"} == set(done)
    files = [path for path in (tmp_path / "churn").rglob("*") if path.is_file()]
    assert 5 <= len(files) <= churn.MOST + 1
    assert (tmp_path / "old").read_bytes() != bytes(5_000)
    assert (tmp_path / "old").stat().st_size == 5_000
