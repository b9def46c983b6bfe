"""The lab's applications on process hosts: shop database, shop web, files, wiki."""

# Names are bytes in some places here, which pathlib does not take.
# ruff: noqa: PTH110, PTH114, PTH116, PTH118

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from migrationhub.lab.process_table import wait_for
from tests.fixtures_lab import ProcessHost

Make = Callable[..., ProcessHost]
postgres = pytest.mark.postgres


def page(host: ProcessHost, port: int = 8080) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host.endpoint.address}:{port}/", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@postgres
def test_the_shop_shows_the_orders_of_its_database(process_host: Make, trap_commands: Callable[[], list[str]]) -> None:
    db = process_host("db", "shop-db", interval="0.05")
    web = process_host("web", "shop-web", database_host=db.endpoint.address)
    assert wait_for(lambda: page(web)[0] == 200 and '<strong id="order">0<' not in page(web)[1], 60), page(web)
    status, text = page(web)
    assert status == 200
    assert "<h1>Shop</h1>" in text
    assert (db.root / "etc/machine-id").read_text().strip() in text
    for line in db.supervisorctl("status").splitlines():
        assert line.split()[:2] in (["orders", "RUNNING"], ["postgresql", "RUNNING"])
    # Orders go on with the next number after the database was gone, and the shop says so meanwhile.
    psql = "/usr/lib/postgresql/15/bin/psql -h $HOST_DIR/run/postgresql -U postgres -d shop -Atc"
    db.supervisorctl("stop", "postgresql")
    assert page(web)[0] == 503
    assert "The shop is closed" in page(web)[1]
    db.supervisorctl("start", "postgresql")
    before = int(db.execute(f"{psql} 'SELECT max(number) FROM orders'").out)
    written = f"{psql} 'SELECT max(number), count(*), count(DISTINCT written_by) FROM orders'"
    assert wait_for(lambda: int(db.execute(written).out.split("|")[0]) > before, 60)
    last, rows, writers = db.execute(written).out.strip().split("|")
    assert last == rows
    assert writers == "1"
    assert db.execute(f"{psql} 'SELECT count(*) FROM pgbench_accounts'").out == "100000\n"


def test_the_wiki_serves_its_page(process_host: Make) -> None:
    wiki = process_host("wiki", "wiki")
    assert wait_for(lambda: page(wiki)[0] == 200, 60), wiki.execute("cat var/log/wiki.log").out
    assert "<h1>Wiki</h1>" in page(wiki)[1]


@postgres
def test_a_copied_data_directory_starts_beside_the_one_it_was_copied_from(process_host: Make) -> None:
    """Process hosts share process numbers: the lock file of the source's living postmaster must not keep the clone
    from starting, as it would not on a machine of its own."""
    db = process_host("source-db", "shop-db", start=False)
    clone = process_host("clone-db", start=False)
    pid_file = "srv/postgresql/postmaster.pid"
    for path in ("srv/postgresql", "opt", "etc/supervisor.d"):
        subprocess.run(["rm", "-rf", clone.root / path], check=True)
        subprocess.run(["cp", "-a", db.root / path, clone.root / path], check=True)
    db.start()
    assert wait_for(lambda: (db.root / pid_file).exists(), 60)
    clone.write(pid_file, (db.root / pid_file).read_bytes(), 0o600)
    clone.start()
    log = clone.root / "var/log/orders.log"
    assert wait_for(lambda: "RUNNING" in clone.supervisorctl("status", "postgresql"), 60)
    assert wait_for(lambda: (clone.root / pid_file).read_text() != (db.root / pid_file).read_text(), 60), log


def test_the_file_server_has_everything_that_a_copy_can_lose(process_host: Make) -> None:
    host = process_host("files", "files", files="100", interval="0.005")
    root = os.fsencode(host.root / "srv/files")
    names = [os.path.join(base, name) for base, dirs, files in os.walk(root) for name in dirs + files]
    assert len(names) > 150
    assert any(b"\n" in name for name in names)
    assert any(b"\xe9" in name for name in names)
    assert os.stat(root + b"/links/hard1").st_nlink == 3
    assert os.path.islink(root + b"/links/dangling")
    assert not os.path.exists(root + b"/links/dangling")
    sparse = os.stat(root + b"/sparse/hole2")
    assert sparse.st_blocks * 512 < sparse.st_size // 10
    assert os.getxattr(root + b"/attributes/acl", "system.posix_acl_access")
    assert {os.lstat(name).st_uid for name in names if os.path.lexists(name)} == {host.backend.account.uid}
    seen: set[str] = set()

    def changes() -> bool:
        seen.update(str(path) for path in (host.root / "srv/files/churn").rglob("*"))
        renamed = any(Path(path).name.startswith("r1") for path in seen)
        return renamed and any(not os.path.lexists(path) for path in seen)

    assert wait_for(changes, 60), host.execute("cat var/log/churn.log").out
