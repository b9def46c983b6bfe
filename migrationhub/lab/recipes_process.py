"""What is on the disk of a process host: the skeleton of each, and the lab's applications.

A recipe writes into a directory that becomes the host's root. Everything that may be copied to another host
(`srv`, `opt`, `etc/supervisor.d`) names no place: services find theirs in HOST_DIR, HOST_ADDRESS, HOST_RESOLVER.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from migrationhub.lab.hosts import HostSpec
from migrationhub.lab.process_account import Account, interpreter
from migrationhub.lab.state import Lab, LabProblem

PROGRAMS = Path(__file__).with_name("programs")
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
# What would touch the real machine; first in PATH on every process host, so that a mistake is seen and harmless.
TRAPPED = (
    *("systemctl", "systemd-run", "service", "shutdown", "poweroff", "reboot", "halt", "init", "telinit"),
    *("ip", "ifconfig", "nft", "iptables", "apt", "apt-get", "dpkg", "sudo", "su"),
)
TRAP_LOG = "var/log/trapped-commands"

SSHD_CONFIG = """\
Port 2222
HostKey {root}/etc/ssh/ssh_host_ed25519_key
{host_keys}
AuthorizedKeysFile {root}/.ssh/authorized_keys
PidFile {root}/run/sshd.pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
X11Forwarding no
LoginGraceTime 20
MaxStartups 200
MaxSessions 100
Subsystem sftp internal-sftp
"""

SUPERVISORD_CONF = """\
[unix_http_server]
file={root}/run/supervisor.sock
chmod=0700

[supervisord]
directory={root}
logfile={root}/var/log/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile={root}/run/supervisord.pid
childlogdir={root}/var/log
nocleanup=true
minfds=256
minprocs=64

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{root}/run/supervisor.sock

[include]
files={root}/etc/supervisor.d/*.ini
"""

SERVICE = """\
[program:{name}]
command={command}
directory=%(ENV_HOST_DIR)s
environment={environment}
priority={priority}
autostart=true
autorestart=unexpected
startsecs=1
startretries=10
stopsignal={stop}
stopwaitsecs=30
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile=%(ENV_HOST_DIR)s/var/log/{name}.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=1
"""

POWER = """\
#!/bin/sh
# {act} of this host: its keeper is told, as init is told on a real one.
exec 9<>"{root}/run/power" && echo {act} >&9
"""

TRAP = """\
#!/bin/sh
printf '%s\\t%s\\n' "$(date +%FT%T)" "${{0##*/}} $*" >> "{root}/{log}"
echo "${{0##*/}}: refused: this host is a directory of a real machine" >&2
exit 97
"""

# Hosts share the machine's process numbers: a number in a copied lock file may be another cluster's postmaster, and
# PostgreSQL would refuse to start. On hosts of their own it would see that the number is nobody's.
POSTGRES_RUN = """\
#!/bin/sh
set -eu
data="$HOST_DIR/srv/postgresql"
if [ -e "$data/postmaster.pid" ]; then
  pid=$(head -n 1 "$data/postmaster.pid")
  [ "$(readlink "/proc/$pid/cwd" || true)" = "$data" ] || rm -f "$data/postmaster.pid"
fi
mkdir -p "$HOST_DIR/run/postgresql"
exec {postgres} -D "$data" -h "$HOST_ADDRESS" -k "$HOST_DIR/run/postgresql"
"""

POSTGRES_CONF = """
port = 5432
max_connections = 20
shared_buffers = 16MB
fsync = off                    # the machine's own crash is not what the lab tries
checkpoint_timeout = 30s
min_wal_size = 32MB
max_wal_size = 64MB
log_min_messages = warning
timezone = UTC
"""

POSTGRES_HBA = """\
local all all trust
host all all 127.0.0.0/8 trust
"""


@dataclass
class Build:
    """One disk being made: `root` is where it is written, `final` where it will be."""

    lab: Lab
    account: Account
    spec: HostSpec
    root: Path
    final: Path

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.root / path
        self.directory(str(Path(path).parent))
        target.write_text(text)
        target.chmod(mode)
        self.own(target)

    def directory(self, path: str, mode: int = 0o755) -> Path:
        target = self.root
        for part in Path(path).parts:
            target = target / part
            if not target.is_dir():
                target.mkdir(mode=mode)
                self.own(target)
        return target

    def own(self, path: Path) -> None:
        if self.account.switched:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

    def run(self, *command: str, timeout: float = 300.0) -> str:
        return self.account.run(*command, directory=self.root, timeout=timeout)

    def option(self, name: str, default: str) -> str:
        return self.spec.options.get(name, default)

    def service(self, name: str, command: str, *, priority: int = 500, stop: str = "TERM", **environment: str) -> None:
        pairs = ",".join(f'{key}="{value}"' for key, value in environment.items())
        text = SERVICE.format(name=name, command=command, environment=pairs, priority=priority, stop=stop)
        self.write(f"etc/supervisor.d/{name}.ini", text)

    def program(self, name: str) -> str:
        """Copy one of the lab's programs in; the command that runs it."""
        self.write(f"opt/{name}", (PROGRAMS / name).read_text())
        return f"{interpreter(self.account)} %(ENV_HOST_DIR)s/opt/{name}"


def base(build: Build) -> None:
    """sshd, an empty supervisord, power and traps."""
    root = build.final
    for path in ("etc/supervisor.d", "etc/ssh", "sbin/traps", "var/log", "var/lib", "srv", "opt"):
        build.directory(path)
    build.directory(".ssh", 0o700)
    kinds = build.option("host_keys", "ed25519 ecdsa").split()
    others = "\n".join(f"HostKey {root}/etc/ssh/ssh_host_{kind}_key" for kind in kinds if kind != "ed25519")
    build.write("etc/ssh/sshd_config", SSHD_CONFIG.format(root=root, host_keys=others))
    build.write("etc/supervisord.conf", SUPERVISORD_CONF.format(root=root))
    key = build.option("authorized_key", "")
    build.write(".ssh/authorized_keys", f"{key}\n" if key else "", 0o600)
    for act in ("poweroff", "reboot"):
        build.write(f"sbin/{act}", POWER.format(act=act, root=root), 0o755)
    for name in TRAPPED:
        build.write(f"sbin/traps/{name}", TRAP.format(root=root, log=TRAP_LOG), 0o755)
    if build.spec.user_data:
        build.write("var/lib/first-boot/user-data", build.spec.user_data, 0o600)


def shop_db(build: Build) -> None:
    """PostgreSQL with pgbench's data and the service “orders”. Options: `scale` (of pgbench), `interval` (seconds)."""
    base(build)
    if not (POSTGRES_BIN / "initdb").exists():
        raise LabProblem(
            f"The host “{build.spec.name}” needs PostgreSQL's server programs, and {POSTGRES_BIN} has none.",
            "Install the Debian package postgresql-15.",
            code="lab.postgres_missing",
        )
    with cluster(build).open("rb") as archive:
        build.account.run("tar", "-xf", "-", directory=build.directory("srv"), stdin=archive.fileno())
    build.write("opt/postgresql", POSTGRES_RUN.format(postgres=POSTGRES_BIN / "postgres"), 0o755)
    build.service("postgresql", "%(ENV_HOST_DIR)s/opt/postgresql", priority=100, stop="INT")
    library(build)
    build.service(
        "orders",
        build.program("orders.py"),
        PYTHONPATH="%(ENV_HOST_DIR)s/opt/lib",
        DATABASE_HOST="%(ENV_HOST_ADDRESS)s",
        MACHINE_ID_FILE="%(ENV_HOST_DIR)s/etc/machine-id",
        ORDERS_INTERVAL=build.option("interval", "0.2"),
    )


def shop_web(build: Build) -> None:
    """The service “shop” on port 8080. Option: `database_host` (a name or an address)."""
    base(build)
    library(build)
    build.service(
        "shop",
        build.program("shop.py"),
        PYTHONPATH="%(ENV_HOST_DIR)s/opt/lib",
        SHOP_ADDRESS="%(ENV_HOST_ADDRESS)s",
        DATABASE_HOST=build.option("database_host", "db.shop.lab"),
        RESOLVER="%(ENV_HOST_RESOLVER)s",
    )


def files(build: Build) -> None:
    """A tree with everything that a copy can lose, and the service “churn”. Options: `files`, `interval`, `churn`."""
    base(build)
    tree = build.directory("srv/files")
    python = interpreter(build.account)
    build.program("maketree.py")
    build.run(python, str(build.root / "opt/maketree.py"), str(tree), build.option("files", "300"))
    command = build.program("churn.py")
    if build.option("churn", "yes") == "yes":
        build.service("churn", f"{command} %(ENV_HOST_DIR)s/srv/files {build.option('interval', '0.2')}")


def wiki(build: Build) -> None:
    """A static page on port 8080."""
    base(build)
    build.write("srv/wiki/index.html", "<!doctype html><title>Wiki</title><h1>Wiki</h1>\n")
    python = interpreter(build.account)
    build.service(
        "wiki",
        f"{python} -u -m http.server 8080 --bind %(ENV_HOST_ADDRESS)s --directory %(ENV_HOST_DIR)s/srv/wiki",
    )


RECIPES: dict[str, Callable[[Build], None]] = {
    "base": base,
    "debian": base,  # what the platform's image of that name is here
    "shop-db": shop_db,
    "shop-web": shop_web,
    "files": files,
    "wiki": wiki,
}


def library(build: Build) -> None:
    """psycopg in pure Python over the system's libpq: it runs with whatever interpreter the host has."""
    for name in ("psycopg", "typing_extensions"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue  # psycopg needs typing_extensions on older interpreters only
        source = Path(spec.origin)
        source = source.parent if source.name == "__init__.py" else source
        target = build.directory("opt/lib") / source.name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
        for path in (target, *target.rglob("*")):
            build.own(path)


def cluster(build: Build) -> Path:
    """An archive of a PostgreSQL data directory with the shop's data, made once on this machine and then kept."""
    scale = str(int(build.option("scale", "1")))
    recipe = "\0".join((str(POSTGRES_BIN), POSTGRES_CONF, POSTGRES_HBA, scale, CLUSTER_SQL))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    archive = build.lab.cache / f"process-shop-db-{digest}.tar"
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    make_cluster(build, scale)
    try:
        temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            tar = ["tar", "-C", str(build.root / "making"), "--numeric-owner", "-cf", "-", "postgresql"]
            subprocess.run(tar, stdout=file, check=True, timeout=300)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(build.root / "making")
    return archive


CLUSTER_SQL = "CREATE ROLE shop LOGIN; CREATE DATABASE shop OWNER shop"


def make_cluster(build: Build, scale: str) -> None:
    """Run initdb and pgbench in `making/postgresql`; the server listens on a socket there alone."""
    making = build.directory("making", 0o700)
    data, programs = making / "postgresql", POSTGRES_BIN
    initdb = [f"{programs}/initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    build.run(*initdb, "--locale=C.UTF-8", "--no-sync", "--data-checksums")
    with (data / "postgresql.conf").open("a") as file:
        file.write(POSTGRES_CONF)
    (data / "pg_hba.conf").write_text(POSTGRES_HBA)
    server = f"-c listen_addresses='' -k {shlex.quote(str(making))}"
    control = [f"{programs}/pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(making / "log")]
    build.run(*control, "-o", server, "start")
    try:
        for statement in CLUSTER_SQL.split("; "):
            build.run(f"{programs}/psql", "-h", str(making), "-U", "postgres", "-qc", statement)
        build.run(f"{programs}/pgbench", "-h", str(making), "-U", "shop", "-i", "-q", "-s", scale, "shop")
    finally:
        build.run(*control, "-m", "fast", "stop")
    (data / "postmaster.opts").unlink(missing_ok=True)
