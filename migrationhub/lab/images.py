"""Images of nspawn hosts: built once per recipe, kept in the machine's cache, used by all its labs.

A build happens beside its place and is renamed into it, so a failed or killed one leaves nothing half. One lock
serialises builds and keeps an image while a host is being made from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from migrationhub.lab.network import ALL_WITH_US, WITH_US
from migrationhub.lab.nspawn_root import remove_tree
from migrationhub.lab.recipes import recipe as recipe_of
from migrationhub.lab.recipes.base import PROGRAMS, Recipe
from migrationhub.lab.state import LabProblem

SUITE = "bookworm"
KEPT = 6 * 3600  # seconds since its last use: another checkout may stand on another version of a recipe
# A mount namespace of its own takes the mounts away with the build, however that ends.
BUILD = r"""
set -eu
root=$1 archives=$2
shift 2
mount --bind "$archives" "$root/var/cache/apt/archives"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/dev/shm"
mount -t tmpfs tmpfs "$root/dev/shm"
touch "$root/etc/resolv.conf"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
cat > "$root/tmp/commands"
exec < /dev/null
exec chroot "$root" /bin/sh -euc '
  export DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 LC_ALL=C.UTF-8 HOME=/root
  export PATH=/usr/sbin:/usr/bin:/sbin:/bin
  printf "#!/bin/sh\nexit 101\n" > /usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  if [ $# -gt 0 ]; then
    apt-get -qq -o Acquire::Languages=none update
    apt-get -qq -y --no-install-recommends install "$@"
    rm -rf /var/lib/apt/lists/*_*
  fi
  . /tmp/commands
  rm -rf /usr/sbin/policy-rc.d /var/cache/apt/*.bin /var/log/apt/* /var/lib/dpkg/*-old
' build "$@"
"""


class ImageProblem(LabProblem):
    """An image could not be built."""


class Images:
    """The cache of images: `cache/images/<recipe>-<hash>/` is a complete root directory."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.images = cache / "images"
        self.archives = cache / "debs"

    def path(self, name: str) -> Path:
        return self.images / f"{name}-{recipe_of(name).digest()}"

    @contextlib.contextmanager
    def image(self, name: str) -> Iterator[Path]:
        """The image's root directory, built first where it is missing; kept while the context is open."""
        self.images.mkdir(parents=True, exist_ok=True)
        (self.archives / "partial").mkdir(parents=True, exist_ok=True)
        handle = os.open(self.images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            while not self.path(name).is_dir():
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._build(recipe_of(name))
                fcntl.flock(handle, fcntl.LOCK_SH)
            os.utime(self.path(name))  # when it was used last
            yield self.path(name)
        finally:
            os.close(handle)

    def _build(self, recipe: Recipe) -> Path:
        """Build the image and what it stands on; the caller holds the lock exclusively."""
        path = self.path(recipe.name)
        if path.is_dir():
            return path
        for left in self.images.glob(".building-*"):
            remove_tree(left)
        parent = self._build(recipe.parent) if recipe.parent else None
        building = self.images / f".building-{recipe.name}"
        try:
            if parent is None:
                self._debootstrap(recipe, building)
            else:
                command([*WITH_US, "cp", "-a", "--reflink=auto", str(parent), str(building)], recipe.name)
                self._fill(recipe, building)
            for old in self.images.glob(f"{recipe.name}-????????????"):
                if time.time() - old.stat().st_mtime > KEPT:
                    shutil.rmtree(old)
            building.rename(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return path

    def _debootstrap(self, recipe: Recipe, building: Path) -> None:
        mirror = os.environ.get("MIGRATIONHUB_LAB_MIRROR") or "http://deb.debian.org/debian"
        argv = [
            *ALL_WITH_US,
            "debootstrap",
            "--variant=minbase",
            "--merged-usr",
            f"--cache-dir={self.archives.resolve()}",
        ]
        argv += [f"--include={','.join(recipe.packages)}", SUITE, str(building), mirror]
        command(argv, recipe.name)
        for directory in ("doc", "man", "info", "locale"):
            shutil.rmtree(building / "usr/share" / directory, ignore_errors=True)
            (building / "usr/share" / directory).mkdir()
        for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/log/*.log"):
            for path in building.glob(pattern):
                path.unlink()

    def _fill(self, recipe: Recipe, building: Path) -> None:
        for name, text in recipe.files.items():
            path = building / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
        for program in recipe.programs:
            path = building / "usr/local/lib/lab" / f"{program}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROGRAMS / f"{program}.py", path)
        place_kernel(building, recipe.kernel)
        argv = [*ALL_WITH_US, "sh", "-c", BUILD, "build"]
        command([*argv, str(building), str(self.archives), *recipe.packages], recipe.name, recipe.commands)
        # systemd would take the D-Bus id for the machine's, and all copies would have the same one.
        for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id", "var/lib/dbus/machine-id"):
            (building / name).unlink(missing_ok=True)


def place_kernel(root: Path, version: str) -> None:
    """A kernel's files as a package leaves them; only their names and their staying matter in a container."""
    for left in (*root.glob("boot/*"), *root.glob("usr/lib/modules/*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    modules = root / "usr/lib/modules" / version
    (modules / "kernel/fs").mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/fs/placeholder.ko:\n")
    (modules / "kernel/fs/placeholder.ko").write_bytes(f"module of {version}\n".encode())
    for kind in ("vmlinuz", "initrd.img", "config", "System.map"):
        (root / "boot" / f"{kind}-{version}").write_text(f"{kind} of {version}\n")


def command(argv: list[str], image: str, data: str = "") -> None:
    """Run one command of a build; what it said last is in the problem's text."""
    done = subprocess.run(argv, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        words = "\n".join(done.stdout.strip().splitlines()[-8:])
        shown = next(word for word in ("debootstrap", "cp", "sh") if word in argv)
        raise ImageProblem(
            f"The image “{image}” could not be built: `{shown}` failed with {done.returncode}:\n{words}",
            "Check that the Debian mirror answers (MIGRATIONHUB_LAB_MIRROR names another) and try again.",
            code="lab.image",
        )
