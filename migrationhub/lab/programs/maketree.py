"""Make the tree of the lab's file server: everything that a copy can lose.

Deep directories, hard links, sparse files, extended attributes, ACLs, symbolic links (dangling too), a FIFO,
names with spaces, newlines and bytes that are not UTF-8; as root also foreign owners, capabilities and a
set-uid file.
The same arguments make the same tree. Usage: maketree.py DIRECTORY FILES [SEED]
"""

# Names are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH118, PTH123, PTH211

import contextlib
import os
import random
import shutil
import stat
import subprocess
import sys

ODD_NAMES = (
    b"with space",
    b"two  spaces and a tab\t",
    b"new\nline",
    b" leading and trailing ",
    b"latin1-\xe9\xe8\xff",
    b"-starts-with-a-dash",
    b"back\\slash\\134",
    b"quote'\"`$(echo no)",
    b"star*question?[bracket]",
    "ünïcödé-日本語".encode(),
    b"x" * 255,
    b"#hash;semi&amp",
)
EPOCH = 1_700_000_000  # fixed times, so that a copy that does not keep them shows


def write(path, data, mode=0o644, at=EPOCH):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    os.utime(path, (at, at))


def fill(root, count, dice):
    """`count` plain files in a tree about six deep, with about 40 files in a directory."""
    directories = [root]
    for number in range(max(1, count // 40)):
        parent = dice.choice(directories[-60:])
        if parent.count(b"/") - root.count(b"/") >= 6:
            parent = root
        directory = os.path.join(parent, b"dir%d" % number)
        os.mkdir(directory, 0o755)
        directories.append(directory)
    for number in range(count):
        size = dice.choice((0, 10, 100, 1_000, 1_000, 4_000, 4_096, 20_000))
        mode = dice.choice((0o644, 0o644, 0o600, 0o640, 0o755, 0o444))
        path = os.path.join(dice.choice(directories), b"file%d" % number)
        write(path, dice.randbytes(size), mode, EPOCH + number)


def odd(root, dice):
    folder = os.path.join(root, b"odd names")
    os.mkdir(folder)
    for name in ODD_NAMES:
        write(os.path.join(folder, name), dice.randbytes(500))
        os.mkdir(os.path.join(folder, b"d" + name[:200]))
        write(os.path.join(folder, b"d" + name[:200], name), dice.randbytes(50))


def links(root, dice):
    folder = os.path.join(root, b"links")
    os.makedirs(os.path.join(folder, b"far", b"away"))
    for group in range(10):
        first = os.path.join(folder, b"hard%d" % group)
        write(first, dice.randbytes(3_000))
        os.link(first, first + b"-second")
        os.link(first, os.path.join(folder, b"far", b"away", b"hard%d" % group))
    os.symlink(b"hard0", os.path.join(folder, b"relative"))
    os.symlink(b"/etc/hostname", os.path.join(folder, b"absolute"))
    os.symlink(b"far/away", os.path.join(folder, b"to a directory"))
    os.symlink(b"nowhere\n\xff", os.path.join(folder, b"dangling"))
    os.symlink(b"itself", os.path.join(folder, b"itself"))
    os.mkfifo(os.path.join(folder, b"fifo"), 0o640)
    os.mkdir(os.path.join(folder, b"empty"), 0o700)
    os.mkdir(os.path.join(folder, b"sticky"))
    os.chmod(os.path.join(folder, b"sticky"), 0o1777)


def sparse(root):
    folder = os.path.join(root, b"sparse")
    os.mkdir(folder)
    for number, size in enumerate((1 << 20, 4 << 20, 16 << 20)):
        path = os.path.join(folder, b"hole%d" % number)
        with open(path, "wb") as file:
            file.write(b"begin")
            file.truncate(size)
            file.seek(size // 2)
            file.write(b"middle")
        os.utime(path, (EPOCH, EPOCH))


def attributes(root, dice):
    folder = os.path.join(root, b"attributes")
    os.mkdir(folder)
    for number in range(5):
        path = os.path.join(folder, b"xattr%d" % number)
        write(path, dice.randbytes(100))
        with contextlib.suppress(OSError):  # a file system without them
            os.setxattr(path, b"user.comment", b"number %d \xff\n" % number)
            os.setxattr(path, b"user.empty", b"")
    with contextlib.suppress(OSError):
        os.setxattr(folder, b"user.on-directory", b"yes")
    path, inherits = os.path.join(folder, b"acl"), os.path.join(folder, b"acl-directory")
    write(path, b"acl\n", 0o640)
    os.mkdir(inherits)
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:12345:r--,g:12346:rw-", path], check=False)
        subprocess.run(["setfacl", "-m", "d:u:12345:rwx", inherits], check=False)


def privileged(root):
    folder = os.path.join(root, b"privileged")
    os.mkdir(folder)
    for name, user, group in ((b"owner", 12345, 12346), (b"group", 0, 12346)):
        path = os.path.join(folder, name)
        write(path, b"owned\n", 0o640)
        os.chown(path, user, group)
    path = os.path.join(folder, b"setuid")
    write(path, b"#!/bin/false\n")
    os.chown(path, 12345, 12346)
    os.chmod(path, stat.S_ISUID | stat.S_ISGID | 0o755)
    path = os.path.join(folder, b"capability")
    write(path, b"#!/bin/false\n", 0o755)
    if shutil.which("setcap"):
        subprocess.run(["setcap", "cap_net_bind_service=ep", path], check=False)


def main():
    root, count = os.fsencode(sys.argv[1]), int(sys.argv[2])
    dice = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    done = os.path.join(root, b".tree-is-complete")
    if os.path.exists(done):
        return
    os.makedirs(root, exist_ok=True)
    fill(root, count, dice)
    odd(root, dice)
    links(root, dice)
    sparse(root)
    attributes(root, dice)
    if os.geteuid() == 0:
        privileged(root)
    write(done, b"%d\n" % count)


if __name__ == "__main__":
    main()
