"""The service “churn” of the lab: changes files below a directory in every way that a sync must notice.

Adds, edits in place by write and by mmap (the latter moves neither mtime nor ctime until the page is written
back), renames directories, deletes. What it adds stays below DIRECTORY/churn and is bounded; edits reach the
whole tree.
Usage: churn.py DIRECTORY [SECONDS BETWEEN TWO CHANGES]
"""

# Names are bytes here, which pathlib does not take.
# ruff: noqa: PTH118, PTH123

import contextlib
import mmap
import os
import random
import shutil
import signal
import stat
import sys
import threading
import time
from pathlib import Path

MOST = 200  # files of its own; more are deleted again


class Churn:
    def __init__(self, root, seed=None):
        self.root = Path(root)
        self.own = self.root / "churn"
        self.own.mkdir(parents=True, exist_ok=True)
        self.random = random.Random(seed)
        self.known = []
        self.looked = 0.0

    def step(self):
        """One change; returns what it was."""
        own = [path for path in self.own.rglob("*") if path.is_file() and not path.is_symlink()]
        change = self.random.choice((self.add, self.add, self.edit, self.map, self.rename, self.delete))
        if len(own) < 10:
            change = self.add
        elif len(own) > MOST:
            change = self.delete
        change(own)
        return change.__name__

    def add(self, own):
        directory = self.own / f"d{self.random.randrange(8)}" / f"e{self.random.randrange(4)}"
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns()}.dat"
        (directory / name).write_bytes(self.random.randbytes(self.random.randrange(1, 20_000)))

    def edit(self, own):
        """Overwrite a few bytes of a file: neither size nor inode changes."""
        with open(self.victim(), "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(self.random.randrange(max(size, 1)))
            file.write(self.random.randbytes(8)[: max(size - file.tell(), 0)])

    def map(self, own):
        """Change a byte through a mapping and leave the write-back to the kernel."""
        with open(self.victim(), "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size:
                with mmap.mmap(file.fileno(), size) as view:
                    position = self.random.randrange(size)
                    view[position] = (view[position] + 1) % 256

    def rename(self, own):
        directories = sorted(path for path in self.own.iterdir() if path.is_dir())
        if directories:
            directory = self.random.choice(directories)
            directory.rename(self.own / f"r{time.time_ns()}")
        if len(directories) > 12:
            shutil.rmtree(self.random.choice(sorted(path for path in self.own.iterdir() if path.is_dir())))

    def delete(self, own):
        self.random.choice(own).unlink()

    def victim(self):
        """A regular, not too large file anywhere below the root. Names are read again every 20 seconds."""
        if not self.known or time.monotonic() - self.looked > 20:
            self.looked = time.monotonic()
            walk = os.walk(os.fsencode(self.root))
            self.known = [os.path.join(base, name) for base, _, names in walk for name in names]
        for path in self.random.sample(self.known, min(50, len(self.known))):
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                writable = stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWUSR
                if writable and 0 < status.st_size < 1 << 20:
                    return path
        raise FileNotFoundError("no file to edit")


def main():
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    churn = Churn(sys.argv[1])
    interval = float(sys.argv[2]) if len(sys.argv) > 2 else 0.2
    while not stop.wait(interval):
        try:
            churn.step()
        except OSError as error:
            print(f"change left out: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
