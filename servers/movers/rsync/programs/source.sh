#!/bin/sh
# On the source: one whole sync, from the freeze to the proof. Detached: needs nobody. Usage: source.sh JOB
set -u
JOB=$1
cd "$JOB" || exit 70
. ./config
. ./common.sh
. ./walk.sh
. ./freeze.sh
. ./snapshots.sh
. ./lists.sh
TREE=$ROOT
WORK=$STATE/work-$ID
PASS=0
WHOLE=
case $FREEZE in
  snapshot-*) [ "${2-}" = inside ] || exec unshare -m --propagation private /bin/sh "$JOB/source.sh" "$JOB" inside ;;
esac

begin() {
  mkdir running 2>/dev/null || exit 0 # a second start of the same sync is none
  read -r stat </proc/$$/stat
  set -- ${stat##*) }
  printf '%s %s %s\n' "$$" "${20}" "$(cat /proc/sys/kernel/random/boot_id)" >pid.new && mv pid.new pid
  trap 'finish $?' EXIT
  trap 'trap "" TERM INT HUP; exit 143' TERM INT HUP # a second one must not cut `finish` short
  mkdir -p "$STATE" || fail 78 "The directory $STATE could not be made."
  true >>"$STATE/lock" || fail 78 "$STATE cannot be written."
  exec 9>"$STATE/lock"
  flock -n 9 || fail 71 "It holds $STATE/lock on $HOST."
  drop_snapshots ""
  rm -rf "$STATE"/work-*
  mkdir "$WORK" && cd "$WORK" && ln -sfn "$WORK" "$JOB/work" || fail 78 "The directory $WORK could not be made."
}

finish() { # status
  status=$1
  trap '' TERM INT HUP
  trap - EXIT
  thaw
  # What still waits for the target: its answer is of no use any more.
  [ "$status" = 0 ] || kill -s TERM -- "-$$" 2>/dev/null || [ -z "${lister:-}" ] || kill "$lister" 2>/dev/null
  # 1 and 2 without a word are the shell's own; rsync's come through `fail`.
  case $status in 1 | 2) [ -s "$JOB/error" ] || status=70 ;; esac
  rm -f "$JOB/key"
  exec 9>&- # whoever reads that this sync has ended may start the next one at once
  date +%s%N >"$JOB/ended"
  printf '%s\n' "$status" >"$JOB/rc.new" && mv "$JOB/rc.new" "$JOB/rc"
  exit "$status"
}

phase() { # word
  printf '%s\n' "$1" >>"$JOB/phases"
}

note() { # sentence
  printf '%s\n' "$1" >>"$JOB/notes"
}

target() { # verb
  ssh -F "$JOB/ssh_config" target "$1" 5>&- 9>&-
}

# What failed, the connection or the program at its other end, and the last words about it.
why() { # status of `target`, file with its errors
  case $1 in
    255) printf 'the connection failed (ssh, status 255): ' ;;
    *) printf 'its program there ended with status %s: ' "$1" ;;
  esac
  if [ -s "$2" ]; then tail -n 3 "$2" | head -c 600; else printf 'no reason was given.'; fi
}

ask_target() { # verb, file for its answer
  target "$1" >"$2.gz" 2>"$2.errors" && return
  asked=$?
  cat "$2.errors" >&2
  case $asked in 80 | 81) fail "$asked" "$(why "$asked" "$2.errors")" ;; esac
  fail 73 "$HOST could not list the target: $(why "$asked" "$2.errors")"
}

await_target() {
  wait "$lister"
  listed=$?
  case $listed in
    0) lister= ;;
    80 | 81) fail "$listed" "The target could not be listed." ;;
    *) fail 73 "The target could not be listed." ;;
  esac
}

# Send what a list of names (NUL, from the root) names. Each pass has its own progress and errors.
send() { # list, then options of rsync
  list=$1
  shift
  [ -s "$list" ] || return 0
  begin_pass "$list"
  (cd "$TREE" && xargs -0 -r stat -c '%F %s' <"$WORK/$list" 2>/dev/null) |
    sed -n 's/^regular[a-z ]* //p' | total >"total-$PASS"
  sed -z "s#^#$PREFIX#" "$list" >"names-$PASS"
  transfer --from0 --files-from="names-$PASS" --ignore-missing-args "$@" "$TREE/" target:./
}

# The same for a list of all that is walked.
send_everything() { # list, then options of rsync
  begin_pass "$1"
  shift
  sizes | total >"total-$PASS"
  everything transfer "$@"
}

sizes() { # of all regular files that were walked, one a line
  sed -nz 's#^.*//f [0-7]* \([0-9]*\) [^/]*//$#\1#p' s.shared | tr '\0' '\n'
}

begin_pass() { # list
  PASS=$((PASS + 1))
  tr -dc '\0' <"$1" | wc -c >"entries-$PASS"
}

# Seconds of silence after which rsync gives up. ssh sees within a minute that the network or the target's sshd is dead,
# but not that the rsync behind it hangs. A busy rsync is not silent, but for one thing: while it hashes a file for
# --checksum nothing is sent. So there the largest file is allowed for, at 10 MiB/s.
silence() { # options of rsync
  largest=
  case " $* " in
    *" --checksum "*) largest=$(sizes | sort -n | tail -n 1) ;;
  esac
  echo "$((SILENCE + ${largest:-0} / 10485760))"
}

# A window of -1: without it a time within the same second is as good as the right one for directories and links, and
# both sides never become equal. rsync before 3.1.3 then sets every time anew, which does no harm here.
transfer() { # options of rsync and what it sends
  rsync -aHAXS --numeric-ids --modify-window=-1 --partial --bwlimit="$BANDWIDTH" --timeout="$(silence "$@")" \
    --info=progress2,name0,flist0 --stats --no-human-readable --outbuf=L -e "ssh -F $JOB/ssh_config" "$@" \
    >"rsync-$PASS.out" 2>"rsync-$PASS.errors" </dev/null 5>&- 9>&-
  judge $? "rsync-$PASS.errors"
}

judge() { # status of rsync, file with its errors
  cat "$2" >&2
  case " 0 $TOLERATED " in
    *" $1 "*) [ "$1" = 0 ] || note "Some files vanished while they were copied; the next delta finds them gone." ;;
    *)
      case $1 in 11 | 12 | 23) target full >>"$2" 2>/dev/null ;; esac
      fail "$1" "$(tail -n 8 "$2" | head -c 1200)"
      ;;
  esac
}

remove() { # list
  sound "$1"
  [ -s "$1" ] || return 0
  gzip -1 <"$1" | target remove 2>remove.errors && return
  removed=$?
  [ "$removed" = 80 ] || fail 76 "$(why "$removed" remove.errors)"
  fail 80 "$(why "$removed" remove.errors)"
}

copy() { # options for the first pass
  phase copying
  # Should this sync not come to its end, the next one must not take what it did for somebody else's changes. And half
  # a copy it is from the first removal on.
  unrecorded >unfinished.before
  sort -zmu send.all remove unfinished.before >unfinished && mv -f unfinished "$STATE/unfinished" ||
    fail 78 "$STATE cannot be written."
  remove remove.early
  cat send >>sent.all || fail 78 "$WORK cannot be written."
  if [ -n "$WHOLE" ]; then
    WHOLE= # of what the rounds after this one find, only that
    send_everything send "$@"
  else
    send send "$@"
  fi
  remove remove.late
}

# A named directory that is not there would look as if everything in it had been deleted.
list_source() { # file
  gone=$(cd "$TREE" && missing)
  [ -z "$gone" ] || fail 72 "These named directories are not on $HOST: $gone"
  manifest walk "$1"
}

# The target lists itself while the source freezes and lists itself.
first_round() {
  phase comparing
  (ask_target before target.before) 9>&- &
  lister=$!
  moment
  printf '%s\n' "$MOMENT" >"$JOB/as_of"
  freeze
  [ "$FREEZE" = postgresql ] && moment
  flush
  take_snapshot
  list_source "$STATE/$ID.source"
  [ "$KIND" != final ] || settle "$STATE/$ID.source"
  await_target
  read_target target.before
  compare_with_last
}

# A final sync ends when a look at both sides finds nothing left to do.
until_equal() {
  phase proving
  round=1
  seen=$STATE/$ID.source
  while :; do
    [ $round -lt 5 ] || fail 77 "The source still changes: $(names_of changed.now)"
    round=$((round + 1))
    (ask_target again target.again) 9>&- &
    lister=$!
    moment
    flush
    list_source "$STATE/round-$round.source"
    settle "$STATE/round-$round.source"
    await_target
    read_target target.again
    compare_round "$seen" "$STATE/round-$round.source"
    [ "$round" = 2 ] || rm -f "$seen" "$seen.meta"
    seen=$STATE/round-$round.source
    sound changed.now # nothing found, or nothing looked for?
    [ -s changed.now ] || break
    copy --ignore-times
  done
  mv -f "$seen" "$STATE/$ID.source" && mv -f "$seen.meta" "$STATE/$ID.source.meta"
}

# Attributes that no list holds (ACLs, xattrs) and, by profile, contents: a run that would send nothing.
dry_run() { # list, options
  list=$1
  shift
  [ -s "$list" ] || return 0
  sed -z "s#^#$PREFIX#" "$list" >names-dry
  rehearse --from0 --files-from=names-dry "$@" "$TREE/" target:./
}

rehearse() { # options of rsync and what it would send
  rsync -n -i -aHAXS --numeric-ids --timeout="$(silence "$@")" --out-format='=%i %n' --stats --no-human-readable \
    -e "ssh -F $JOB/ssh_config" "$@" >dry.out 2>dry.errors </dev/null 9>&-
  code=$?
  cat dry.errors >&2
  [ "$code" = 0 ] || fail "$code" "$(tail -n 8 dry.errors | head -c 1200)"
  if sed -n 's/^=//p' dry.out >dry.found && [ -s dry.found ]; then
    cat dry.found >&2
    fail 77 "$(wc -l <dry.found) differences: $(head -n 5 dry.found | tr '\n' ';' | head -c 600)"
  fi
}

# Everything that was walked. A run by directories and rules must have seen as many files as the list has.
dry_run_of_all() { # options
  if [ -e "$JOB/rules" ]; then
    everything rehearse "$@"
    seen_files=$(sed -n 's/^Number of files: .*(reg: \([0-9]*\)[,)].*/\1/p' dry.out)
    [ "${seen_files:-0}" != "$(grep -zc '//f [^/]*//$' "$STATE/$ID.source")" ] || return 0
  fi
  dry_run prove.all "$@"
}

prove() {
  rm -f prove.all prove.sent prove.target
  paths "$STATE/$ID.source" | sort -z -T "$STATE" >s.paths
  without_root s.paths >prove.all
  sound s.paths prove.all
  case $PROOF in
    full) dry_run_of_all ;;
    checksum) dry_run_of_all --checksum ;;
    *) sort -zu sent.all | comm -z -12 - s.paths >sent.now && without_root sent.now >prove.sent && sound prove.sent && dry_run prove.sent ;;
  esac
  if [ -s "$STATE/changed-on-target" ]; then
    grep -zv '^[^/]*\(/[^/][^/]*\)*//[^/]*//d ' "$STATE/$ID.source" | paths - | sort -z |
      comm -z -12 - "$STATE/changed-on-target" >prove.target
    sound prove.target
    dry_run prove.target --checksum
  fi
  sound
}

keep_two() { # the manifests of this sync and of the last one, and no other generation
  for old in "$STATE"/of-*; do
    rm -f "$old"
  done
  [ ! -e "$STATE/unfinished" ] || mv -f "$STATE/unfinished" "$STATE/of-$ID" # until a sync is compared with this one
  drop_other_generations
  for old in "$STATE"/*.source; do
    case ${old##*/} in "$ID.source" | "$LAST.source") ;; *) rm -f "$old" "$old.meta" ;; esac
  done
}

# Small lists for whoever asks how it ended.
save_facts() {
  tr -dc '\0' <discarded | wc -c >discarded.count
  sed -zn 1,200p discarded >discarded.head
  true >config.head
  [ -s sent.all ] || return 0
  source_others
  sort -zu sent.all | comm -z -12 - s.others | grep -z '^etc/' | sed -zn 1,200p >config.head
}

begin
first_round
copy "$FULL_OPTION"
end_freeze
send_base_written
if [ "$KIND" = final ]; then
  until_equal
  prove
fi
phase finishing
save_facts
target after >target.after 2>target.after.errors || fail 73 "$(why $? target.after.errors)"
keep_two
exit 0
