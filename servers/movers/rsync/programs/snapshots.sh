# On the source: a sync copies from snapshots of file systems, shown at their places in a private view of the machine;
# the rest of the view is live. A snapshot is written down before it is made, so that however this program or this
# machine ends, end.sh or the next sync removes it. `scope_points` and `view_points` call their argument with number
# and path of each mount point.
KEPT=${STATE%/*}/snapshots # lines: name of the sync, kind, name of the snapshot
LVM_SUPPRESS_FD_WARNINGS=1
export LVM_SUPPRESS_FD_WARNINGS

take_snapshot() {
  case $FREEZE in
    snapshot-btrfs) kind=btrfs ;;
    snapshot-lvm) kind=lvm ;;
    snapshot-zfs) kind=zfs ;;
    *) return ;;
  esac
  mkdir -p "$JOB/view" "$JOB/shown" || fail 78 "$JOB cannot be written."
  true >live.points
  "${kind}_snapshots"
  view_points show_point
  [ "$kind" != btrfs ] || show_nested
  [ ! -s live.points ] || note "In no snapshot, so copied live: $(in_words live.points)."
  TREE=$JOB/view
}

show_point() { # number, mount point
  what=$2
  [ ! -L "$JOB/shown/$1" ] || what=$(readlink "$JOB/shown/$1")
  mount --bind "$what" "$JOB/view${2%/}" 2>view.errors || fail 75 "$2 could not be shown: $(head -c 400 view.errors)"
}

live_point() { # mount point, or a subvolume
  printf '%s\n' "$1" >>live.points
}

# A database that was copied live may be torn, whatever the snapshots hold. It is known by the files that preflight.sh
# looks for; PostgreSQL's also tell that it is stopped, and what is in snapper's directory is nobody's any more.
live_databases() { # list of what was copied
  [ -s live.points ] || return 0
  { scope_points print_point && cat live.points; } | sort -u >held.points
  paths "$1" | grep -zE '(^|/)(pg_control|postmaster\.pid|ibdata1|WiredTiger|dump\.rdb|[^/]*\.fdb)$' |
    grep -zvE '(^|/)\.snapshots/' | one_a_line | sed 's#^#/#' >databases
  while IFS= read -r path; do
    data=${path%/*}
    case $path in
      */postmaster.pid) continue ;;
      */pg_control) data=${data%/*} && grep -qxF -e "$data/postmaster.pid" databases || continue ;;
    esac
    ! grep -qxF -e "$(holder "$data")" live.points || printf '%s\n' "$data"
  done <databases | sort -u >live.databases
  [ ! -s live.databases ] ||
    became_live "A database that may be open is in no snapshot ($(in_words live.databases)): this copy is not consistent."
}

print_point() { # number, mount point
  printf '%s\n' "$2"
}

holder() { # path: the innermost point that holds it
  best=/
  while IFS= read -r point; do
    case $1/ in "${point%/}"/*) [ ${#point} -lt ${#best} ] || best=$point ;; esac
  done <held.points
  printf '%s\n' "$best"
}

one_a_line() { # names, NUL
  tr '\n\0' '?\n'
}

remember() { # kind, name
  printf '%s %s %s\n' "$ID" "$1" "$2" >>"$KEPT" && sync "$KEPT" || fail 78 "$KEPT cannot be written."
}

# Those of one sync, or of all that ended without removing theirs ("").
drop_snapshots() { # name of a sync
  [ -s "$KEPT" ] || return 0
  true >"$KEPT.new" || return 0 # without room the old list stands: to drop what is gone does no harm
  while read -r sync kind name; do
    if [ -n "$1" ] && [ "$sync" != "$1" ]; then
      :
    elif said=$("${kind}_drop" "$name" 2>&1); then
      continue
    else
      note "The snapshot $name could not be removed: $(printf %s "$said" | head -c 200)"
    fi
    printf '%s %s %s\n' "$sync" "$kind" "$name" >>"$KEPT.new" || {
      rm -f "$KEPT.new"
      return 0
    }
  done <"$KEPT"
  mv -f "$KEPT.new" "$KEPT"
}

drop_view() {
  TREE=$ROOT
  umount -R -l "$JOB/view" 2>/dev/null
  for mounted in "$JOB"/snapshot-*; do
    [ ! -d "$mounted" ] || umount "$mounted" 2>/dev/null
  done
}

mount_snapshot() { # device or name, type, options, number and path of the mount point that it is of
  [ -d "$JOB/snapshot-$4" ] || mkdir "$JOB/snapshot-$4"
  mount -t "$2" -o "$3" "$1" "$JOB/snapshot-$4" 2>view.errors ||
    fail 75 "The snapshot of $5 could not be mounted: $(head -c 400 view.errors)"
}

of_mount() { # column of findmnt, mount point
  findmnt -n -v -o "$1" -M "$2" | tail -n 1
}

show_snapshot() { # number of the mount point, its path, number of the snapshot
  inside=$(of_mount FSROOT "$2")
  ln -sfn "$JOB/snapshot-$3${inside%/}" "$JOB/shown/$1"
}

# -- btrfs ---------------------------------------------------------------------------------------------------

btrfs_snapshots() {
  true >covered.points
  scope_points plan_subvolume
  [ -s covered.points ] || fail 75 "Nothing of what is copied lies in the subvolume $SUBVOLUME."
  snapshot=${SUBVOLUME%/}/$SNAPSHOT_NAME
  [ ! -e "$snapshot" ] || btrfs subvolume delete "$snapshot" >/dev/null || fail 75 "The old snapshot $snapshot stays."
  remember btrfs "$snapshot"
  btrfs subvolume snapshot -r "$SUBVOLUME" "$snapshot" >/dev/null 2>snapshot.errors ||
    fail 75 "btrfs: $(head -c 400 snapshot.errors)"
  view_points show_subvolume
}

plan_subvolume() { # number, mount point
  if [ "$2" = "$SUBVOLUME" ]; then
    printf '%s\n' "$2" >>covered.points
  else
    live_point "$2"
  fi
}

show_subvolume() { # number, mount point
  [ "$2" != "$SUBVOLUME" ] || ln -sfn "$snapshot" "$JOB/shown/$1"
}

# A subvolume inside is an empty directory in the snapshot: show the live one there.
show_nested() {
  (cd "$snapshot" && find . -xdev -mindepth 1 -type d -inum 2 -print0) | nested_subvolumes >nested
  [ -s nested ] || return 0
  (cd / && xargs -0 -r -n 1 sh -c 'mount --bind "$1" "$0/$1"' "$JOB/view") <nested ||
    fail 75 "A subvolume inside $SUBVOLUME could not be mounted."
  live_nested <nested
}

# Of directories inside the subvolume (NUL) those that are subvolumes, by their paths from the root. What is mounted
# there is a mount point like any other, and hides what its place held.
nested_subvolumes() {
  xargs -0 -r sh -c 'for one; do
    one=$0/${one#./}
    [ "$(stat -c %i -- "/$one" 2>/dev/null)" != 256 ] || mountpoint -q -- "/$one" || printf "%s\0" "$one"
  done' ".${SUBVOLUME%/}"
}

live_nested() { # subvolumes, NUL: those that are walked
  (cd / && walked) | one_a_line | sed 's#^\.##' >>live.points
}

btrfs_drop() { # path
  [ ! -e "$1" ] || btrfs subvolume delete "$1" >/dev/null
}

# -- LVM -----------------------------------------------------------------------------------------------------

lvm_volumes() { # “major minor group volume bytes free-bytes extent-bytes”
  lvs --noheadings --nosuffix --units b --separator ' ' \
    -o lv_kernel_major,lv_kernel_minor,vg_name,lv_name,lv_size,vg_free,vg_extent_size
}

volume_at() { # mount point: “group volume bytes free-bytes extent-bytes”, nothing where no volume is mounted
  device=$(mountpoint -d -- "$1" 2>/dev/null) || return 0
  lvm_volumes | sed -n "s/^ *${device%:*} ${device#*:} //p" | head -n 1
}

plan_volume() { # number, mount point
  volume=$(volume_at "$2")
  if [ -n "$volume" ]; then
    printf '%s %s %s\n' "$volume" "$1" "$2" >>volumes
  else
    live_point "$2"
  fi
}

# Room for what changes while the sync copies: what the profile says, else a fifth of the volume, as far as all
# volumes of the group find room. Prints bytes, whole extents; nothing where there is none.
snapshot_size() { # group, bytes, free bytes, bytes of an extent, file with all volumes
  all=$(grep "^$1 " "$5" | cut -d ' ' -f 2,3 | sort -u | { sum=0; while read -r _ each; do sum=$((sum + each)); done; echo "$sum"; })
  case $SNAPSHOT_SIZE in
    '') size=$(($2 / 5)) share=$(($3 / 1048576 * ($2 / 1048576) / (all / 1048576 + 1) * 1048576)) ;;
    *%) size=$(($2 / 100 * ${SNAPSHOT_SIZE%\%})) share=$3 ;;
    *) size=$SNAPSHOT_SIZE share=$3 ;;
  esac
  [ -z "$SNAPSHOT_SIZE" ] && [ "$size" -gt "$share" ] && size=$share
  size=$((size / $4 * $4))
  [ "$size" -le 0 ] || [ "$size" -gt "$3" ] || echo "$size"
}

lvm_snapshots() {
  true >volumes
  scope_points plan_volume
  [ -s volumes ] || fail 75 "Nothing of what is copied lies on an LVM volume."
  made=
  while read -r group volume bytes free extent number point; do
    case $made in
      *" $group/$volume="*) order=${made##*" $group/$volume="} order=${order%% *} ;;
      *)
        order=$number
        lvm_snapshot
        made="$made $group/$volume=$number "
        ;;
    esac
    show_snapshot "$number" "$point" "$order"
  done <volumes
  set -- $made
  [ $# -lt 2 ] || note "The snapshots were taken one after another, not at one moment: $(printf '%s ' "$@" | sed 's/=[0-9]*//g; s/ $//; s/ /, /g')."
}

lvm_snapshot() { # of the line that was read
  size=$(snapshot_size "$group" "$bytes" "$free" "$extent" volumes)
  [ -n "$size" ] || fail 75 "The volume group $group has no room for a snapshot of $volume ($((free / 1048576)) MiB free)."
  snapshot=${SNAPSHOT_MARK}_$number
  [ -z "$(lvs --noheadings -o lv_name "$group/$snapshot" 2>/dev/null)" ] || fail 75 "There is a volume $group/$snapshot already."
  remember lvm "$group/$snapshot"
  lvcreate -y -q -q -s -n "$snapshot" -L "${size}b" --addtag migrationhub "$group/$volume" </dev/null >/dev/null 2>snapshot.errors ||
    fail 75 "lvcreate for $group/$volume: $(head -c 400 snapshot.errors)"
  type=$(of_mount FSTYPE "$point")
  case $type in
    xfs) mount_snapshot "/dev/$group/$snapshot" xfs ro,nouuid "$number" "$point" ;; # the same UUID is mounted already
    *) mount_snapshot "/dev/$group/$snapshot" "$type" ro "$number" "$point" ;;
  esac
}

lvm_drop() { # group/volume: only one of ours, and that it is a snapshot is asked again
  case $(lvs --noheadings --separator : -o lv_tags,lv_attr "$1" 2>/dev/null) in
    *migrationhub*:[sS]*) ;;
    *) return 0 ;;
  esac
  tries=0
  until lvremove -y -q -q -f "$1" </dev/null; do # a program that just ended, or udev, may have it open for a moment
    tries=$((tries + 1))
    [ $tries -lt 10 ] || return 1
    sleep 0.5
  done
}

# A snapshot that is full is invalid from then on; whatever was read from it before was right, but not the rest.
overflowed() { # prints the name of one of ours that is invalid, or gone
  [ "$FREEZE" = snapshot-lvm ] && [ -s "$KEPT" ] || return 1
  while read -r sync kind name; do
    [ "$sync" = "$ID" ] && [ "$kind" = lvm ] || continue
    case $(lvs --noheadings -o lv_attr "$name" 2>/dev/null | tr -d ' ') in
      ????[IS]* | '') printf %s "$name" && return 0 ;;
    esac
  done <"$KEPT"
  return 1
}

# -- ZFS -----------------------------------------------------------------------------------------------------

plan_dataset() { # number, mount point
  if [ "$(of_mount FSTYPE "$2")" = zfs ]; then
    printf '%s\n' "$(of_mount SOURCE "$2")" >>datasets
    printf '%s %s\n' "$1" "$2" >>dataset.points
  else
    live_point "$2"
  fi
}

# One command for each pool: within a pool the snapshots are of one moment.
zfs_snapshots() {
  true >datasets
  true >dataset.points
  scope_points plan_dataset
  [ -s datasets ] || fail 75 "Nothing of what is copied lies on ZFS."
  sort -u datasets | sed "s/\$/@$SNAPSHOT_MARK/" >zfs.names
  sed 's#[/@].*##' zfs.names | sort -u >zfs.pools
  while read -r name; do remember zfs "$name"; done <zfs.names
  while read -r pool; do
    grep "^$pool[/@]" zfs.names | tr '\n' '\0' | xargs -0 zfs snapshot 2>snapshot.errors ||
      fail 75 "zfs snapshot in $pool: $(head -c 400 snapshot.errors)"
  done <zfs.pools
  [ "$(wc -l <zfs.pools)" -lt 2 ] || note "The snapshots of the pools $(tr '\n' ' ' <zfs.pools)were taken one after another, not at one moment."
  while read -r number point; do
    mount_snapshot "$(of_mount SOURCE "$point")@$SNAPSHOT_MARK" zfs ro "$number" "$point"
    show_snapshot "$number" "$point" "$number"
  done <dataset.points
}

zfs_drop() { # dataset@snapshot
  zfs list -H -t snapshot -o name "$1" >/dev/null 2>&1 || return 0
  tries=0
  until zfs destroy "$1" </dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 10 ] || return 1
    sleep 0.5
  done
}
