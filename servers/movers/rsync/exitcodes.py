"""What the exit status of a copy means: the one table, for rsync and for our own programs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExitCode:
    code: int
    name: str  # stable word
    text: str  # what happened
    act: str  # what to do next
    live: bool = False  # acceptable while the source is in use
    final: bool = False  # acceptable for the sync that must be equal


_RETRY = "Try again; the copy goes on where it stopped."

_BROKE = "The connection to the target broke in the middle of the copy."
_BROKE_ACT = "Check the network and whether the target runs, then try again; the copy goes on where it stopped."

_ROWS = (
    ExitCode(0, "ok", "Everything was sent.", "", live=True, final=True),
    # rsync
    ExitCode(1, "rsync.usage", "rsync refused its options.", "Compare the rsync versions on both machines."),
    ExitCode(2, "rsync.protocol", "The rsync versions do not understand each other.", "Update the older rsync."),
    ExitCode(3, "rsync.files", "rsync could not open its files or directories.", "See the log for the path."),
    ExitCode(4, "rsync.unsupported", "rsync cannot do on this machine what was asked.", "Update rsync there."),
    ExitCode(5, "rsync.start", "rsync could not start its conversation with the target.", _RETRY),
    ExitCode(6, "rsync.log", "rsync could not write its log.", "Check free space on the source."),
    ExitCode(10, "rsync.socket", "The connection to the target failed.", _RETRY),
    ExitCode(11, "rsync.io", "Reading or writing a file failed.", "See the log: a full or damaged disk."),
    ExitCode(
        12,
        "rsync.stream",
        _BROKE,
        _BROKE_ACT,
    ),
    ExitCode(13, "rsync.diagnostics", "rsync failed while it reported an error.", "See the log."),
    ExitCode(14, "rsync.ipc", "rsync's processes lost each other.", _RETRY),
    ExitCode(15, "rsync.kill", "The sibling of an rsync process crashed.", _RETRY),
    ExitCode(16, "rsync.sibling", "An rsync process ended by an error of its own.", "See the log."),
    ExitCode(19, "rsync.usr1", "rsync was stopped by a signal.", _RETRY),
    ExitCode(20, "rsync.interrupted", "rsync was ended by a signal.", _RETRY),
    ExitCode(21, "rsync.wait", "rsync lost one of its processes.", _RETRY),
    ExitCode(22, "rsync.memory", "rsync had not enough memory.", "Free memory on source or target, then try again."),
    ExitCode(
        23,
        "rsync.partial",
        "Some files could not be copied.",
        "The log names them: make them readable on the source or writable on the target, or exclude them.",
    ),
    ExitCode(
        24,
        "rsync.vanished",
        "Some files vanished while they were copied.",
        "Something still runs on the source: stop it, then try again.",
        live=True,  # the next delta finds them gone
    ),
    ExitCode(25, "rsync.max-delete", "rsync reached its limit of deletions.", "See the log."),
    ExitCode(
        30,
        "rsync.timeout",
        "The rsync on the target neither took nor sent anything for at least ten minutes.",
        "Check that its disk answers and that nothing holds its processes, then try again; the copy goes on where it"
        " stopped.",
    ),
    ExitCode(35, "rsync.daemon-timeout", "The target did not answer.", "Check the target, then try again."),
    ExitCode(127, "rsync.missing", "rsync is not installed on the source.", "Install rsync there, then try again."),
    ExitCode(
        255,
        "ssh.failed",
        "The source could not open its connection to the target.",
        "Check that the source reaches the target's port, then try again.",
    ),
    # our programs
    ExitCode(70, "mover.program", "The copy program failed.", "See the log."),
    ExitCode(71, "mover.locked", "Another sync of this migration still runs on the source.", "Wait for its end."),
    ExitCode(72, "manifest.walk", "A directory of the source could not be read.", "See the log for the path."),
    ExitCode(73, "manifest.target", "The target could not be listed.", "See the log for the cause."),
    ExitCode(74, "freeze.failed", "The database could not be put into backup mode.", "See the log for the cause."),
    ExitCode(75, "snapshot.failed", "The snapshot could not be taken.", "See the log for the cause."),
    ExitCode(
        79,
        "snapshot.full",
        "The snapshot filled up during the copy and is worth nothing.",
        "Give it more room in the profile (size), or sync when less is written; then try again.",
    ),
    ExitCode(76, "remove.failed", "Files could not be removed from the target.", "See the log for the paths."),
    ExitCode(
        77,
        "proof.failed",
        "Source and target are not equal.",
        "The log names the paths: stop what writes there, then run the final sync again.",
    ),
    ExitCode(78, "mover.space", "The source has no room for the lists of the sync.", "Free space below /var/lib."),
    ExitCode(
        80,
        "lists.broken",
        "A program that compares the lists of files failed, so nothing was concluded from them.",
        "Check free space below /var/lib and free memory on the machine that is named, then try again.",
    ),
    ExitCode(
        81,
        "manifest.silent",
        "A list of files came to a stop.",
        "Mount what does not answer anew or unmount it, or mend the disk, then try again.",
    ),
    ExitCode(143, "mover.ended", "The copy was ended by a signal.", _RETRY),
)

TABLE: dict[int, ExitCode] = {row.code: row for row in _ROWS}

_HINTS = (  # words of rsync, ssh or the shell that name a cause better than the status does
    # The target's shell says so, and rsync on the source only that its connection ended.
    ("exec: rsync: ", "rsync.missing", "rsync is not installed on the target.", "Install rsync there, then try again."),
    (
        "No space left on device",
        "target.full",
        "The target has no space left.",
        "Enlarge the target's disk, then try again.",
    ),
    ("Disk quota exceeded", "target.quota", "The target's disk quota is used up.", "Raise the quota, then try again."),
    ("Read-only file system", "target.read-only", "A file system of the target is read-only.", "Mount it writable."),
    (
        "Host key verification failed",
        "target.host-key",
        "The target shows another host key than the known one.",
        "Check that the address belongs to the target, then accept its key.",
    ),
    (
        "Permission denied (publickey",
        "target.key",
        "The target refuses the key of this sync.",
        "Run the sync again; it authorises a new key.",
    ),
    ("Connection refused", "target.refused", "The target refuses connections on its port.", "Check that it runs."),
    (
        "Connection timed out",
        "target.timeout",
        "The target does not answer the source.",
        "Check the path between them.",
    ),
    ("closed by remote host", "rsync.stream", _BROKE, _BROKE_ACT),
    ("Connection reset by peer", "rsync.stream", _BROKE, _BROKE_ACT),
    (" not responding", "rsync.stream", _BROKE, _BROKE_ACT),  # ssh: “Timeout, server … not responding.”
    ("No route to host", "target.route", "The source has no route to the target.", "Check the path between them."),
    (
        "(ssh, status 255)",
        "ssh.failed",
        "The source could not open its connection to the target, or lost it.",
        "Check that the source reaches the target's port, then try again.",
    ),
)


# These say themselves what happened, and not on the target.
_OWN_WORDS = frozenset({70, 72, 74, 75, 77, 78, 79, 80, 81})


def meaning(code: int, said: str = "") -> ExitCode:
    """The row of a status; of an unknown one a row that accepts nothing. `said`: the last words of the programs."""
    row = TABLE.get(code) or _unlisted(code)
    if row.live or code in _OWN_WORDS:
        return row
    for words, name, text, act in _HINTS:
        if words in said:
            return ExitCode(code, name, text, act)
    return row


def _unlisted(code: int) -> ExitCode:
    if 128 < code < 160:  # a shell's word for a program that a signal ended, here or on the target
        text = f"A program of the copy was ended by signal {code - 128}, on the source or on the target."
        return ExitCode(code, "mover.signal", text, "Check that both machines run and have memory, then try again.")
    return ExitCode(
        code, "mover.unknown", f"The copy ended with the unknown status {code}.", "See the log, then try again."
    )


def acceptable(code: int, *, final: bool) -> bool:
    row = TABLE.get(code)
    return row is not None and (row.final if final else row.live)


def tolerated(*, final: bool) -> str:
    """The acceptable statuses other than 0, for the program on the source."""
    return " ".join(str(row.code) for row in _ROWS if row.code and acceptable(row.code, final=final))
