#!/bin/sh
# On the source: one whole sync, from the freeze to the proof. Detached: needs nobody. Usage: source.sh JOB
set -u
JOB=$1
cd "$JOB" || exit 70
. ./config
. ./common.sh
. ./walk.sh
. ./freeze.sh
. ./lists.sh
TREE=$ROOT
WORK=$STATE/work-$ID
PASS=0
case $FREEZE in
  snapshot-*) [ "${2-}" = inside ] || exec unshare -m --propagation private /bin/sh "$JOB/source.sh" "$JOB" inside ;;
esac

begin() {
  mkdir running 2>/dev/null || exit 0 # a second start of the same sync is none
  read -r stat </proc/$$/stat
  set -- ${stat##*) }
  printf '%s %s %s\n' "$$" "${20}" "$(cat /proc/sys/kernel/random/boot_id)" >pid.new && mv pid.new pid
  trap 'finish $?' EXIT
  trap 'exit 143' TERM INT HUP
  mkdir -p "$STATE" || fail 78 "The directory $STATE could not be made."
  exec 9>"$STATE/lock"
  flock -n 9 || fail 71 "It holds $STATE/lock on $HOST."
  rm -rf "$STATE"/work-*
  mkdir "$WORK" && cd "$WORK" && ln -sfn "$WORK" "$JOB/work" || fail 78 "The directory $WORK could not be made."
}

finish() { # status
  status=$1
  trap '' TERM INT HUP
  trap - EXIT
  [ -z "${lister:-}" ] || kill "$lister" 2>/dev/null
  thaw
  rm -f "$JOB/key"
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

ask_target() { # verb, file for its answer
  if ! target "$1" >"$2.gz" 2>"$2.errors"; then
    cat "$2.errors" >&2
    fail 73 "$HOST could not list the target: $(tail -n 3 "$2.errors" | head -c 600)"
  fi
}

await_target() {
  wait "$lister" || fail 73 "The target could not be listed."
  lister=
}

# Send what a list of names (NUL, from the root) names. Each pass has its own progress and errors.
send() { # list, then options of rsync
  list=$1
  shift
  [ -s "$list" ] || return 0
  PASS=$((PASS + 1))
  sed -z "s#^#$PREFIX#" "$list" >"names-$PASS"
  tr -dc '\0' <"$list" | wc -c >"entries-$PASS"
  (cd "$TREE" && xargs -0 -r stat -c '%F %s' <"$WORK/$list" 2>/dev/null) |
    sed -n 's/^regular[a-z ]* //p' | total >"total-$PASS"
  rsync -aHAXS --numeric-ids --from0 --files-from="names-$PASS" --ignore-missing-args --partial \
    --bwlimit="$BANDWIDTH" --info=progress2,name0,flist0 --stats --no-human-readable --outbuf=L \
    -e "ssh -F $JOB/ssh_config" "$@" "$TREE/" target:./ \
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

total() {
  sum=0
  while read -r size; do sum=$((sum + size)); done
  echo "$sum"
}

remove() { # list
  [ -s "$1" ] || return 0
  gzip -1 <"$1" | target remove 2>remove.errors || fail 76 "$(head -c 600 remove.errors)"
}

copy() { # options for the first pass
  phase copying
  remove remove.early
  cat send >>sent.all
  # Should this sync not come to its end, the next one must not take what it did for somebody else's changes.
  touch "$STATE/unfinished"
  sort -zmu send.all remove "$STATE/unfinished" >unfinished && mv -f unfinished "$STATE/unfinished" ||
    fail 78 "$STATE cannot be written."
  send send "$@"
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
  (ask_target before target.before) &
  lister=$!
  moment
  printf '%s\n' "$MOMENT" >"$JOB/as_of"
  freeze
  [ "$FREEZE" = postgresql ] && moment
  flush
  take_snapshot
  list_source "$STATE/$ID.source"
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
    grep -zq '//!' "$seen" && sleep 2.1
    round=$((round + 1))
    (ask_target again target.again) &
    lister=$!
    moment
    flush
    list_source "$STATE/round-$round.source"
    await_target
    read_target target.again
    links "$STATE/round-$round.source" >source.links
    compare_round "$seen" "$STATE/round-$round.source"
    [ "$round" = 2 ] || rm -f "$seen" "$seen.meta"
    seen=$STATE/round-$round.source
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
  rsync -n -i -aHAXS --numeric-ids --from0 --files-from=names-dry --out-format='%i %n' \
    -e "ssh -F $JOB/ssh_config" "$@" "$TREE/" target:./ >dry.out 2>dry.errors </dev/null 9>&-
  code=$?
  cat dry.errors >&2
  [ "$code" = 0 ] || fail "$code" "$(tail -n 8 dry.errors | head -c 1200)"
  if [ -s dry.out ]; then
    cat dry.out >&2
    fail 77 "$(wc -l <dry.out) differences: $(head -n 5 dry.out | tr '\n' ';' | head -c 600)"
  fi
}

prove() {
  paths "$STATE/$ID.source" | sort -z -T "$STATE" >s.paths
  without_root s.paths >prove.all
  case $PROOF in
    full) dry_run prove.all ;;
    checksum) dry_run prove.all --checksum ;;
    *) sort -zu sent.all | comm -z -12 - s.paths >sent.now && without_root sent.now >prove.sent && dry_run prove.sent ;;
  esac
  if [ -s "$STATE/changed-on-target" ]; then
    grep -zv '^[^/]*\(/[^/][^/]*\)*//[^/]*//d ' "$STATE/$ID.source" | paths - | sort -z |
      comm -z -12 - "$STATE/changed-on-target" >prove.target
    dry_run prove.target --checksum
  fi
}

keep_two() { # the manifests of this sync and of the last one, and no other generation
  rm -f "$STATE/unfinished"
  drop_other_generations
  for old in "$STATE"/*.source; do
    case ${old##*/} in "$ID.source" | "$LAST.source") ;; *) rm -f "$old" "$old.meta" ;; esac
  done
}

# Small lists for whoever asks how it ended.
save_facts() {
  tr -dc '\0' <discarded | wc -c >discarded.count
  head -zn 200 discarded >discarded.head
  sort -zu sent.all | comm -z -12 - s.others | grep -z '^etc/' | head -zn 200 >config.head
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
target after >target.after 2>target.after.errors || fail 73 "$(tail -n 3 target.after.errors | head -c 600)"
keep_two
exit 0
