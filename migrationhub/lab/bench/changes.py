"""What happens on the source between two syncs. Runs there with the host's own Python: `changes.py TREE SEED C D`.

C files get other content, D files go away, one directory gets another name. Each set is drawn by SEED.
"""

# Names are bytes here, which pathlib does not take.
# ruff: noqa: PTH104, PTH107, PTH116, PTH118, PTH120, PTH123

import os
import random
import sys

DIRECTORY_SHARE = 50  # the renamed directory holds about one file in so many


def plain_files(root: bytes) -> dict[bytes, int]:
    """The files that may be written to, with how many files each directory has with all below it."""
    found: dict[bytes, int] = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if name.startswith(b"file") and os.stat(path).st_mode & 0o200:
                found[path] = 1
    return found


def to_rename(root: bytes, files: list[bytes]) -> bytes:
    """A directory below the root whose number of files is nearest to the share."""
    counts: dict[bytes, int] = {}
    for path in files:
        above = os.path.dirname(path)
        while above != root:
            counts[above] = counts.get(above, 0) + 1
            above = os.path.dirname(above)
    wanted = len(files) / DIRECTORY_SHARE
    return min(sorted(counts), key=lambda path: abs(counts[path] - wanted))


def main() -> None:
    root, seed, changed, deleted = os.fsencode(sys.argv[1]), *(int(word) for word in sys.argv[2:5])
    files = sorted(plain_files(root))
    chosen = random.Random(seed).sample(files, changed + deleted)
    for number, path in enumerate(chosen[:changed]):
        with open(path, "r+b") as file:
            file.write(b"%d" % (seed * 1_000_000 + number))
            file.seek(0, os.SEEK_END)
            file.write(b"changed in round %d\n" % seed)
    for path in chosen[changed:]:
        os.remove(path)
    directory = to_rename(root, files)
    inside = sum(path.startswith(directory + b"/") for path in files)
    os.rename(directory, directory + b"-renamed-%d" % seed)
    print(inside)


if __name__ == "__main__":
    main()
