# End a sync on this machine: all of its processes and nobody else's. Usage: sh -s JOB SECONDS STOP <end.sh
# STOP: a command that ends the unit which carries it, "" where there is none.
JOB=$1
[ -z "$3" ] || $3 2>/dev/null
left=$(($2 * 5))
read -r pid start boot 2>/dev/null <"$JOB/pid" || exit 0
[ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || exit 0
ours() { # is anything of this sync left? The number alone may be another program's by now.
  stat=$(cat "/proc/$pid/stat" 2>/dev/null)
  set -- ${stat##*) }
  [ "${20-}" = "$start" ] && return 0
  for directory in /proc/[0-9]*; do
    stat=$(cat "$directory/stat" 2>/dev/null) || continue
    set -- ${stat##*) }
    [ "${3-}" = "$pid" ] && tr '\0' ' ' 2>/dev/null <"$directory/cmdline" | grep -qF -e "$JOB/" && return 0
  done
  return 1
}
ours || exit 0
kill -s TERM -- "-$pid" 2>/dev/null
while ours && [ $left -gt 0 ]; do
  left=$((left - 1))
  sleep 0.2
done
ours && kill -s KILL -- "-$pid" 2>/dev/null
rm -f "$JOB/key"
exit 0
