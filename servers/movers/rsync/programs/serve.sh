#!/bin/sh
# On the target: the only program that the key of one sync may start. Usage: serve.sh JOB
set -u
JOB=$1
cd "$JOB" || exit 70
. ./config
. ./common.sh
. ./walk.sh
TREE=$ROOT
WORK=$STATE/work

list() { # walk function, file to keep it in
  moment
  flush
  manifest "$1" "$2" || exit $?
}

# The last record, without which the source believes none of them: only where nothing failed on the way to it.
complete() {
  [ -e "$JOB/broken" ] || printf 'E\0'
}

stream() { # kind of record
  sed -z "s#^#$1#"
}

before() {
  rm -f written
  now=$STATE/now
  list walk_before "$now"
  # What this sync is compared with is no longer what is here.
  why=${FULL:-$(unusable "$STATE/$LAST.target")}
  {
    shared "$now" | stream M
    if [ -n "$why" ]; then
      printf 'F%s\0' "$why"
    else
      changed "$STATE/$LAST.target" "$now" | stream C
      taken_away | stream D
    fi
    complete
  } | gzip -1
  sound
}

# What somebody changed here since the last sync. A directory whose entries changed is no change of its own.
taken_away() {
  ! cmp -s "$STATE/$LAST.target" "$now" || return 0
  unmarked "$STATE/$LAST.target" >last.unmarked
  unmarked "$now" >now.unmarked
  comm -z -23 last.unmarked now.unmarked >gone
  comm -z -13 last.unmarked now.unmarked >came
  is_directory='^[^/]*\(/[^/][^/]*\)*//[^/]*//d '
  grep -z "$is_directory" gone | sed -z 's#//.*##' | sort -z >gone.directories
  grep -z "$is_directory" came | sed -z 's#//.*##' | sort -z | comm -z -12 - gone.directories >touched.directories
  sed -z 's#//.*##' gone came | sort -zu | comm -z -23 - touched.directories
}

again() {
  list walk_after "$STATE/$ID.target"
  cp "$STATE/$ID.target" "$STATE/now" || exit 78
  {
    shared "$STATE/$ID.target" | stream M
    links "$STATE/$ID.target" | stream L
    complete
  } | gzip -1
  sound
}

after() {
  if [ "$KIND" = final ]; then
    : # the last look at both sides was after the last write
  elif [ -e written ]; then
    list walk_after "$STATE/$ID.target"
    settle "$STATE/$ID.target"
    sound
  else # as it was listed, so it still has to be
    mv -f "$STATE/now" "$STATE/$ID.target" && mv -f "$STATE/now.meta" "$STATE/$ID.target.meta" || exit 78
  fi
  rm -f "$STATE/now" "$STATE/now.meta"
  drop_other_generations
  for old in "$STATE"/*.target; do
    case ${old##*/} in "$ID.target" | "$LAST.target") ;; *) rm -f "$old" "$old.meta" ;; esac
  done
  echo ok
}

# Depth first, and only what the list saw here: such a path leads through no link, whatever it looks like.
remove() {
  true >written || exit 78
  rm -f wanted removed directories
  gzip -dc | sort -z -T "$STATE" >wanted
  paths "$STATE/now" | sort -z -T "$STATE" | comm -z -12 - wanted >removed
  grep -z '^[^/]*\(/[^/][^/]*\)*//[^/]*//d ' "$STATE/now" | paths - | sort -z -T "$STATE" >directories
  sound wanted removed directories
  cd "$ROOT" || exit 70
  comm -z -23 "$WORK/removed" "$WORK/directories" | xargs -0 -r rm -f -- || exit 76
  comm -z -12 "$WORK/removed" "$WORK/directories" | sort -zr |
    xargs -0 -r rmdir --ignore-fail-on-non-empty -- || exit 76
  sound
}

full() { # mount points without room for anything: rsync's own word for it may be lost with its connection
  cd "$ROOT" || exit 70
  starts | while read -r start; do
    [ ! -e "$start" ] || df -kP "$start" | sed -n '2s/^[^ ]*  *[0-9]*  *[0-9]*  *\([0-9]*\)  *[^ ]*  */\1 /p'
  done | sort -u | while read -r free point; do
    [ "$free" -ge 1024 ] || echo "No space left on device: $point"
  done
}

receive() { # words of rsync's own command line
  for word; do
    case $word in
      --sender | --daemon | --config* | --log-file* | -*s*e.* | --secluded-args | --protect-args)
        fail 70 "refused: $word"
        ;;
    esac
    last=$word
  done
  [ "$last" = ./ ] || fail 70 "refused: a destination other than the root of this host."
  true >written || exit 78
  cd "$ROOT" || exit 70
  exec "$@"
}

# One program at a time. What an earlier sync left running here when its connection was lost would write into the lists
# of this one, or remove what this one sends: it is ended. Descriptor 8 is inherited by all that such a program starts,
# so a lock that is free proves that nothing of it is left; who still waits for the lock has it open as 7.
alone() {
  lock=${STATE%/*}/serving
  mine=$(date -r "$JOB/config" +%s%N) # when this sync was prepared
  true >>"$lock" || fail 78 "$lock cannot be written."
  exec 7<>"$lock"
  rounds=0
  until flock -n 7; do
    [ $rounds -lt 60 ] || fail 73 "A program of another sync does not end on $HOST; it keeps $lock open."
    holder=
    read -r holder <"$lock" || :
    [ "${holder:-$mine}" -ge "$mine" ] || end_holders $rounds 2>/dev/null
    rounds=$((rounds + 1))
    sleep 1 7>&-
  done
  printf '%s\n' "$mine" >"$lock"
  exec 8<&7 7>&-
}

end_holders() { # rounds so far
  for directory in /proc/[0-9]*; do
    [ "$directory/fd/8" -ef "$lock" ] || continue
    if [ "$1" -lt 5 ]; then kill -s TERM "${directory#/proc/}"; else kill -s KILL "${directory#/proc/}"; fi
  done
}

mkdir -p "$WORK" && cd "$WORK" || fail 78 "The directory $WORK could not be made."
case ${SSH_ORIGINAL_COMMAND-} in
  full) ;; # asked beside a copy that has just failed
  *) alone ;;
esac
case ${SSH_ORIGINAL_COMMAND-} in
  before | again | after | remove | full) "$SSH_ORIGINAL_COMMAND" ;;
  *[!A-Za-z0-9\ ._/=,:@%+-]*) fail 70 "refused: a character that has a meaning for the shell." ;;
  "rsync --server "*)
    set -f
    set -- $SSH_ORIGINAL_COMMAND
    receive "$@"
    ;;
  *) fail 70 "refused: only the programs of one sync may be started by this key." ;;
esac
