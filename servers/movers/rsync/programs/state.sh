# How a sync is on this machine, as lines “name base64”. Read only. Usage: sh -s JOB <state.sh
JOB=$1
LC_ALL=C
export LC_ALL
show() { # name, from standard input
  printf '%s ' "$1"
  base64 -w 0
  echo
}
word() { # name, value
  printf %s "$2" | show "$1"
}
boot=$(cat /proc/sys/kernel/random/boot_id)
word boot "$boot"
cd "$JOB" 2>/dev/null || exit 0
word directory yes
[ ! -e try ] || show try <try
if [ -e running ]; then
  life=dead
  if [ ! -e pid ]; then
    [ -z "$(find running -prune -mmin +1)" ] && life=alive
  elif read -r pid start started_boot <pid && [ "$boot" = "$started_boot" ]; then
    stat=$(cat "/proc/$pid/stat" 2>/dev/null)
    set -- ${stat##*) }
    [ "${20-}" = "$start" ] && [ "$1" != Z ] && life=alive # dead, but nobody asked how it ended
  fi
  word life "$life"
fi
# Only after the look at the process: its last act is to write this.
[ ! -e rc ] || show rc <rc
for name in phases error notes full as_of ended live; do
  [ ! -e "$name" ] || show "$name" <"$name"
done
[ ! -e log ] || tail -n 30 log | tail -c 4000 | show log
cd work 2>/dev/null || exit 0
for name in discarded.count discarded.head config.head; do
  [ ! -e "$name" ] || show "$name" <"$name"
done
pass=1
while [ -e "rsync-$pass.out" ]; do
  tail -c 1500 "rsync-$pass.out" | show "out-$pass"
  [ ! -e "total-$pass" ] || show "total-$pass" <"total-$pass"
  [ ! -e "entries-$pass" ] || show "entries-$pass" <"entries-$pass"
  pass=$((pass + 1))
done
