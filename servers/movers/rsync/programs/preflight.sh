# What a sync would meet on this machine, as lines “name base64”. Read only; slow parts have a limit of their own.
# Usage: sh -s ROOT SIDE PORT ADDRESS -- PATH… <preflight.sh   (SIDE: source | target; paths begin with “./”)
ROOT=$1 SIDE=$2 PORT=$3 ADDRESS=$4
shift 5
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
export LC_ALL PATH
show() {
  printf '%s ' "$1"
  base64 -w 0
  echo
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
  df -kPT 2>/dev/null | show disks
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
  timeout 12 find "$@" -xdev -maxdepth 8 \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run \) -prune -o \
    \( -name pg_control -o -name ibdata1 -o -name WiredTiger -o -name '*.fdb' -o -name 'dump.rdb' \) -print0 2>/dev/null |
    head -zn 20 | show databases
  timeout 12 find "$@" -xdev -maxdepth 8 -name postmaster.pid -print0 2>/dev/null | head -zn 20 | show postmasters
fi
date +%s%N | show clock
