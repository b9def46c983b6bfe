# Shared by the programs on source and target. Needs sh, coreutils, findutils, sed, grep, gzip.
# JOB: directory of this sync, in memory. STATE: kept manifests. WORK: lists of this sync, on disk and the working
# directory. ROOT: root of the host, TREE: what is listed and sent. ID, LAST: names of the manifests.
LC_ALL=C
PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077

fail() { # status, sentence
  fail_status=$1
  shift
  printf '%s\n' "$*" >&2
  [ -s "$JOB/error" ] || printf '%s\n' "$*" >"$JOB/error"
  exit "$fail_status"
}

# The moment before which everything must be in a manifest, and what tells whether the clock was set back since.
moment() {
  MOMENT=$(date +%s%N)
  MOMENT=$((MOMENT / 10000000))
  read -r UPTIME _ </proc/uptime
  UPTIME=$(printf '%s' "${UPTIME%.*}${UPTIME#*.}" | sed 's/^0*//')
  BOOT=$(cat /proc/sys/kernel/random/boot_id)
}

# A write through a page that is dirty already moves neither ctime nor mtime: pages are written back first, and
# whatever changed since just before that counts as changed.
manifest() { # walk function, file: the moment is the caller's
  rm -f "$2" "$2.meta"
  (cd "$TREE" && { "$1" "$((MOMENT / 100 - 2))" "$ID.$MOMENT"; } 2>"$WORK/walk.errors") |
    sed -z 's#^\./\([^/]\)#\1#' | sort -z -T "$STATE" >"$2.new" || fail 78 "The list of files could not be written to $2."
  if grep -v ': No such file or directory$' "$WORK/walk.errors" >"$WORK/walk.refused"; then
    fail 72 "$(head -c 600 "$WORK/walk.refused")"
  fi
  printf '%s %s %s\n' "$MOMENT" "$UPTIME" "$BOOT" >"$2.meta" && mv -f "$2.new" "$2" ||
    fail 78 "The list of files could not be written to $2."
}

# Why the last manifest cannot be compared with ("" when it can). All times in hundredths of a second.
unusable() { # last manifest
  if [ ! -s "$1" ] || [ ! -s "$1.meta" ]; then
    echo "no list of the last sync on $HOST"
    return
  fi
  read -r then_moment then_uptime then_boot <"$1.meta"
  if [ "$MOMENT" -lt "$then_moment" ]; then
    echo "the clock of $HOST was set back"
  elif [ "$then_boot" = "$BOOT" ] && [ $((MOMENT - then_moment + 50)) -lt $((UPTIME - then_uptime)) ]; then
    echo "the clock of $HOST was set back"
  fi
}

drop_other_generations() {
  for other in "${STATE%/*}"/*/; do
    [ "${other%/}" = "$STATE" ] || rm -rf "$other"
  done
}

paths() { # manifest
  sed -z 's#//.*##' "$1"
}

shared() { # manifest: only what must agree between both sides
  sed -z 's#//[^/]*//#//#' "$1"
}

unmarked() { # manifest
  sed -z 's#//![^ ]* #//#' "$1"
}

changed() { # last manifest, this manifest: paths that came, went or changed
  { comm -z -23 "$1" "$2" && comm -z -13 "$1" "$2"; } | sed -z 's#//.*##' | sort -zu -T "$STATE"
}

# Hard links as “path//first path of its group”: inode numbers differ between machines, groups must not.
links() { # manifest
  sed -nz 's#^\(.*\)//\(![^ ]* \)\{0,1\}\([^ /]*\) \([0-9]*\) \([0-9]*\) [0-9.]*//f [^/]*//$#\3:\4:\5//\1#p' "$1" |
    grep -zv '^[^:]*:[0-9]*:1//' | sed -z 's#:[0-9]*//#//#' | sort -z -T "$STATE" >"$WORK/links.all"
  sort -z -s -u -t / -k 1,1 "$WORK/links.all" >"$WORK/links.first"
  join -z -t / "$WORK/links.all" "$WORK/links.first" | sed -z 's#^[^/]*//##' | sort -z -T "$STATE"
}
