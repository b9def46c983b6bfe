# What a sync would meet on this machine, as lines “name base64”. Read only; slow parts have a limit of their own.
# Usage: sh -s ROOT SIDE PORT ADDRESS TYPES -- PATH… <preflight.sh
# SIDE: source | target; TYPES: of file systems on the machine's own disks; paths begin with “./”.
ROOT=$1 SIDE=$2 PORT=$3 ADDRESS=$4 TYPES=$5
shift 6
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
export LC_ALL PATH
show() {
  printf '%s ' "$1"
  base64 -w 0
  echo
}
mounted() { # own | foreign: mount points, one a line, with a “?” for what is written as an octal number
  while read -r _ _ _ _ point rest; do
    type=${rest#* - }
    case " $TYPES " in *" ${type%% *} "*) type=own ;; *) type=foreign ;; esac
    [ $type != "$1" ] || printf '%s\n' "$point"
  done </proc/self/mountinfo | sed 's/\\[0-7][0-7][0-7]/?/g' | sort -u
}
cd "$ROOT" || exit 1
{ rsync --version 2>/dev/null || echo none; } | head -n 1 | show rsync
for tool in find sort comm join xargs stat gzip flock setsid ssh ssh-keygen ssh-keyscan; do
  command -v "$tool" >/dev/null || echo "$tool"
done | show missing-tools
[ "$ROOT" != / ] || {
  cat /etc/os-release 2>/dev/null | show release
  { [ -L /bin ] && echo merged || echo split; } | show usr
  cat /proc/self/mountinfo | show mounts
  df -klPT 2>/dev/null | show disks # -l: a server that is away is asked nothing
  for kernel in /boot/vmlinuz-*; do
    [ -e "$kernel" ] && echo "${kernel#/boot/vmlinuz-} $([ -d "/lib/modules/${kernel#/boot/vmlinuz-}" ] && echo yes || echo no)"
  done | show kernels
}
id -u | show uid
for path; do
  if [ -L "$path" ]; then echo "link $path"; elif [ ! -e "$path" ]; then echo "absent $path"; fi
done | show paths
# For each named directory: its size in KiB, then free KiB and mount point of the file system that holds it.
[ "$1" = . ] || for path; do
  size=$(timeout 20 du -sk -- "$path" 2>/dev/null | cut -f 1)
  there=$path
  while [ ! -e "$there" ]; do there=${there%/*}; done
  df -kP "$there" | sed -n "2s/^[^ ]*  *[0-9]*  *[0-9]*  *\([0-9]*\)  *[^ ]*  */${size:--} \1 /p"
done | show places
if [ "$SIDE" = source ]; then
  ssh-keyscan -T 5 -p "$PORT" "$ADDRESS" 2>&1 | show path
  [ "$(id -u)" = 0 ] || timeout 12 find "$@" ! -type l ! -readable -print0 2>/dev/null | head -zn 20 | show unreadable
  # Databases on all own disks: on whatever file system or subvolume they lie. Snapper's copies are nobody's any more.
  set -- "$@" -maxdepth 8 '(' -name .snapshots -o -path ./proc -o -path ./sys -o -path ./dev -o -path ./run
  if [ "$ROOT" = / ]; then
    set -f
    for point in $({ mounted own && mounted own && mounted foreign; } | sort | uniq -u); do
      set -- "$@" -o -path ".$point"
    done
    set +f
  fi
  set -- "$@" ')' -prune -o
  timeout 12 find "$@" \
    '(' -name pg_control -o -name ibdata1 -o -name WiredTiger -o -name '*.fdb' -o -name dump.rdb ')' -print0 2>/dev/null |
    head -zn 20 | show databases
  timeout 12 find "$@" -name postmaster.pid -print0 2>/dev/null | head -zn 20 | show postmasters
fi
date +%s%N | show clock
