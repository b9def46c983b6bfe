# End a sync on this machine: all of its processes and nobody else's, and what it held. Usage:
# sh -s JOB SECONDS STOP <end.sh   (STOP: a command that ends the unit which carries it, "" where there is none)
JOB=$1 SECONDS_LEFT=$2 STOP=$3

ours() { # is anything of this sync left? The number alone may be another program's by now.
  stat=$(cat "/proc/$pid/stat" 2>/dev/null)
  set -- ${stat##*) }
  [ "${20-}" = "$start" ] && [ "$1" != Z ] && return 0 # Z: dead, but nobody asked how it ended
  for directory in /proc/[0-9]*; do
    { read -r stat <"$directory/stat"; } 2>/dev/null || continue
    set -- ${stat##*) }
    [ "${3-}" = "$pid" ] && tr '\0' ' ' 2>/dev/null <"$directory/cmdline" | grep -qF -e "$JOB/" && return 0
  done
  return 1
}

end() {
  read -r pid start boot 2>/dev/null <"$JOB/pid" || return
  [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return
  ours || return
  kill -s TERM -- "-$pid" 2>/dev/null
  rounds=$((SECONDS_LEFT * 5))
  while ours && [ $rounds -gt 0 ]; do
    rounds=$((rounds - 1))
    sleep 0.2
  done
  ours && kill -s KILL -- "-$pid" 2>/dev/null
}

[ -z "$STOP" ] || $STOP 2>/dev/null
end
rm -f "$JOB/key"
# Left by a program that was killed.
note() {
  printf '%s\n' "$1" >>"$JOB/notes"
}
if cd "$JOB" 2>/dev/null && [ -s config ] && [ -s snapshots.sh ]; then
  PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin
  . ./config
  . ./snapshots.sh
  drop_snapshots "$ID"
fi
exit 0
