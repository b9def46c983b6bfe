"""What an image of nspawn hosts is, and the images without applications: Debian 12 with systemd.

An image is its parent plus packages, files, a kernel's name and commands. Its hash covers all of that, so that a
change to a recipe, to a program or to a parent builds it anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent.with_name("programs")
# Bump when what the builder itself writes into images changes (debootstrap not counted).
BUILDER = "3"

BASE_PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,rsync,iproute2,ifupdown,iputils-ping,procps,kmod,netbase,"
    "acl,attr,libcap2-bin,cron,sudo,ca-certificates"
)

INIT_UNIT = """\
[Unit]
Description=First boot: host keys
Before=ssh.service
ConditionPathExists=!/var/lib/cloud/instance/keys-made

[Service]
Type=oneshot
ExecStart=/usr/lib/lab/first-boot keys

[Install]
WantedBy=ssh.service multi-user.target
"""
# After the machine is up, like cloud-final.service: what it runs may start units and wait for them.
FINAL_UNIT = """\
[Unit]
Description=First boot: user data
After=multi-user.target
ConditionPathExists=!/var/lib/cloud/instance/boot-finished

[Service]
Type=oneshot
ExecStart=/usr/lib/lab/first-boot user-data
TimeoutStartSec=300

[Install]
WantedBy=multi-user.target
"""
FIRST_BOOT = """\
#!/bin/sh
# What cloud-init does in a virtual machine, as far as the lab needs it: host keys of its own, then the user data,
# each once in the machine's life.
set -u
seed=/var/lib/cloud/seed/nocloud/user-data
state=/var/lib/cloud/instance
mkdir -p "$state"
case "$1" in
keys)
    ssh-keygen -A && : > "$state/keys-made"
    ;;
user-data)
    if [ -s "$seed" ]; then
        exec >> /var/log/cloud-init-output.log 2>&1
        case "$(head -c 2 "$seed")" in
        '#!')
            install -m 0700 "$seed" "$state/user-data"
            "$state/user-data"
            echo "user data ended with $?"
            rm -f "$state/user-data"
            ;;
        *) echo "user data is no script: the first line must start with #!" ;;
        esac
    fi
    : > "$state/boot-finished"
    ;;
esac
"""
SSHD = """\
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
"""
# Documentation, translations and LLVM (PostgreSQL's JIT, 110 MB) are never unpacked.
SLIM = """\
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*
path-exclude=/usr/lib/llvm-*
path-exclude=/usr/lib/postgresql/*/lib/bitcode/*
"""


@dataclass(frozen=True)
class Recipe:
    name: str
    parent: Recipe | None = None  # None: what debootstrap makes
    packages: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # path in the image → text; "#!" makes it executable
    programs: tuple[str, ...] = ()  # of migrationhub/lab/programs, to /usr/local/lib/lab/
    commands: str = ""  # shell script, run inside the image
    network: str = "ifupdown"  # how hosts of this image configure their address: ifupdown | networkd
    kernel: str = "6.1.0-28-amd64"
    disk: str = "directory"  # directory | btrfs: what the root of a host of this image is on
    creation: str = ""  # shell script, run inside the new host's root at its creation, with its options

    def digest(self) -> str:
        """Hash of all that makes the image."""
        parts = [
            BUILDER if self.parent else "",
            repr(self),
            *((PROGRAMS / f"{name}.py").read_text() for name in self.programs),
        ]
        if self.parent:
            parts.append(self.parent.digest())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


NETWORKD = """
systemctl disable networking.service
systemctl enable systemd-networkd.service
rm -f /etc/network/interfaces
"""

# Apart from the base, so that a change to the base's files costs no debootstrap.
BOOTSTRAP = Recipe("bootstrap", packages=tuple(BASE_PACKAGES.split(",")))
BASE = Recipe(
    "base",
    BOOTSTRAP,
    files={
        "/etc/dpkg/dpkg.cfg.d/slim": SLIM,
        "/etc/systemd/system/lab-init.service": INIT_UNIT,
        "/etc/systemd/system/lab-final.service": FINAL_UNIT,
        "/usr/lib/lab/first-boot": FIRST_BOOT,
        "/etc/ssh/sshd_config.d/lab.conf": SSHD,
        "/etc/fstab": "# filled by the installer of a real machine\n",
    },
    # Timers that would work on their own in the middle of a test, and the keys that all copies would share.
    commands="""
systemctl enable lab-init.service lab-final.service
systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
rm -f /etc/ssh/ssh_host_*
""",
)
# What the platform provisions; another kernel than the sources have, so that a lost one shows.
DEBIAN = Recipe("debian", BASE, kernel="6.1.0-37-amd64")
DEBIAN_NETWORKD = Recipe("debian-networkd", BASE, network="networkd", kernel="6.1.0-37-amd64", commands=NETWORKD)
