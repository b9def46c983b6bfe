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

# A program that fails leaves an empty or a short list, which would read as “nothing is left here: remove it there” or
# as “equal”, and in a pipeline its status is lost. So each failure is marked, in memory, where a full disk is no
# hindrance, and `sound` stands before whatever a list decides.
broke() { # status, program
  # 141: its reader had gone. Then that one has failed, or had read enough. With no room at all the file is empty.
  if [ "$1" != 141 ] && [ ! -e "$JOB/broken" ]; then
    printf '%s ended with status %s' "$2" "$1" >"$JOB/broken" || [ -e "$JOB/broken" ] || kill "$$"
  fi
  return "$1"
}

sound() { # lists that must be there, whatever is in them
  for list; do
    [ -f "$list" ] || broke 1 "writing ${list##*/}"
  done
  [ ! -e "$JOB/broken" ] || fail 80 "On $HOST: $(command head -c 300 "$JOB/broken")."
}

sort() { command sort "$@" || broke $? sort; }
comm() { command comm "$@" || broke $? comm; }
join() { command join "$@" || broke $? join; }
sed() { command sed "$@" || broke $? sed; }
head() { command head "$@" || broke $? head; }
gzip() { command gzip "$@" || broke $? gzip; }

# These say 1 where they found nothing, or not everything.
grep() { command grep "$@" || small $? grep; }
find() { command find "$@" || small $? find; }

small() { # status, program
  [ "$1" -le 1 ] || broke "$1" "$2"
  return "$1"
}

# The moment before which everything must be in a manifest, and what tells whether the clock was set back since.
moment() {
  MOMENT=$(date +%s%N)
  MOMENT=$((MOMENT / 10000000))
  read -r UPTIME _ </proc/uptime
  UPTIME=$(printf '%s' "${UPTIME%.*}${UPTIME#*.}" | sed 's/^0*//')
  BOOT=$(cat /proc/sys/kernel/random/boot_id)
}

two_seconds_before() { # moment: as seconds for find
  printf '%s.%02d' "$((($1 - 200) / 100))" "$(($1 % 100))"
}

# A write through a page that is dirty already moves neither ctime nor mtime: pages are written back first, and
# whatever changed since just before that counts as changed.
manifest() { # walk function, file: the moment is the caller's
  rm -f "$2" "$2.meta"
  # Where these cannot be opened, nothing would be walked, or what was refused would not be seen.
  for written in walked walk.errors walk.refused; do
    true >"$WORK/$written" || fail 78 "$WORK cannot be written."
  done
  walk_in_time "$1"
  sed -z 's#^\./\([^/]\)#\1#' "$WORK/walked" | sort -z -T "$STATE" >"$2.new" ||
    fail 78 "The list of files could not be written to $2."
  rm -f "$WORK/walked"
  sound "$2.new"
  # What is mounted from elsewhere is not listed; that its own place gives an error takes nothing away.
  foreign | sed 's#[\\'\'']#\\&#g; s#.*#find: '\''&'\'': #' >"$WORK/walk.foreign" # as find quotes names
  if grep -v ': No such file or directory$' "$WORK/walk.errors" |
    grep -vF -f "$WORK/walk.foreign" >"$WORK/walk.refused"; then
    fail 72 "$(head -c 600 "$WORK/walk.refused")"
  fi
  sound
  printf '%s %s %s\n' "$MOMENT" "$UPTIME" "$BOOT" >"$2.meta" && mv -f "$2.new" "$2" ||
    fail 78 "The list of files could not be written to $2."
}

# Even the look at a mount point, to leave it out, may never come back where its server is away.
walk_in_time() { # walk function
  (
    cd "$TREE" || broke $? "going to $TREE" || exit
    "$1" "$(two_seconds_before "$MOMENT")" "$ID.$MOMENT" 2>"$WORK/walk.errors"
  ) >"$WORK/walked" 5>&- 9>&- &
  walker=$!
  # In brackets: the redirections of a function are undone after it, so its shell would keep the lock open meanwhile.
  (end_when_silent "$walker") >/dev/null 2>&1 </dev/null 5>&- 8>&- 9>&- &
  watcher=$!
  wait "$walker" && walked=0 || walked=$?
  if [ -e "$JOB/silent" ]; then
    wait "$watcher"
    fail 81 "$(cat "$JOB/silent")"
  fi
  kill "$watcher" 2>/dev/null
  small "$walked" "walking the files" || :
}

end_when_silent() { # process: the shell that lists
  : "${SILENCE:=600}" # as long as a silent rsync is waited for; the target is told nothing else
  quiet=0
  listed=0
  while :; do
    sleep 1 # short: it sleeps on, of a log-in that is over, when this shell is ended
    kill -0 "$1" || return 0
    before=$listed
    listed=$(stat -c %s "$WORK/walked")
    quiet=$((quiet + 1))
    [ "$listed" = "$before" ] || quiet=0
    [ "$quiet" -ge "$SILENCE" ] || continue
    printf '%s\n' "On $HOST nothing more was listed for $quiet seconds. $(unanswering)" >"$JOB/silent"
    end_tree "$1"
    return 0
  done
}

unanswering() { # which mounts from elsewhere, in a sentence; each is asked by a process of its own, which may hang
  rm -rf "$WORK/answers" && mkdir "$WORK/answers"
  number=0
  foreign >"$WORK/foreign"
  while IFS= read -r point; do
    number=$((number + 1))
    (
      timeout -s KILL 5 stat "${TREE%/}/${point#./}"
      [ $? -ge 124 ] || true >"$WORK/answers/$number"
    ) >/dev/null 2>&1 &
  done <"$WORK/foreign"
  sleep 6
  number=0
  names=
  while IFS= read -r point; do
    number=$((number + 1))
    [ -e "$WORK/answers/$number" ] || names="$names ${point#.}"
  done <"$WORK/foreign"
  if [ -n "$names" ]; then
    printf '%s' "Mounted there from elsewhere and without an answer:$names."
  else
    printf '%s' 'What is mounted there from elsewhere answers; look at its disks.'
  fi
}

end_tree() { # process, which starts nothing more from here on; what it started, while that can still be told; itself
  kill -s STOP "$1"
  for directory in /proc/[0-9]*; do
    { read -r stat <"$directory/stat"; } 2>/dev/null || continue
    parent=${stat##*) ? }
    [ "${parent%% *}" != "$1" ] || kill -s KILL "${directory#/proc/}"
  done
  kill -s KILL "$1"
}

foreign() { # mount points that are not listed: walk.sh knows them
  :
}

# What was too young for a list is looked at once more when it is not: where nothing of it has changed, the list is
# as one taken now, and what is in it counts as changed no longer. Costs two seconds less the time of the list.
settle() { # file that `manifest` has just made
  grep -z "//!$ID\.$MOMENT " "$1" >"$WORK/young" || return 0
  left=$((MOMENT + 201 - $(date +%s%N) / 10000000))
  [ "$left" -le 0 ] || sleep "$((left / 100)).$(printf %02d "$((left % 100))")"
  since=$(two_seconds_before "$(($(date +%s%N) / 10000000))")
  flush
  sed -z 's#//![^ ]* [^ ]* #//#' "$WORK/young" >"$WORK/young.then"
  sed -z 's#//.*##; s#^#./#' "$WORK/young" |
    (cd "$TREE" && xargs -0 -r sh -c "$LOOK_AGAIN" look "$since") 2>/dev/null |
    sed -z 's#^\./\./#./#; s#^\./\([^/]\)#\1#' | sort -z -T "$STATE" >"$WORK/young.now"
  cmp -s "$WORK/young.then" "$WORK/young.now" || return 0
  sed -z "s#//!$ID\.$MOMENT #//#" "$1" >"$1.new" && mv -f "$1.new" "$1" ||
    fail 78 "The list of files could not be written to $1."
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
  differences "$1" "$2" | sort -zu -T "$STATE"
}

differences() { # two sorted files: paths of the records that only one has
  cmp -s "$1" "$2" || { comm -z -23 "$1" "$2" && comm -z -13 "$1" "$2"; } | sed -z 's#//.*##'
}

# Hard links as “path//first path of its group”: inode numbers differ between machines, groups must not.
links() { # manifest
  # Nearly all files have one name: they are left out first, cheaply.
  grep -zv '//\(![^ ]* \)\{0,1\}[^ /]* [0-9]* 1 [0-9.]*//' "$1" |
    sed -nz 's#^\(.*\)//\(![^ ]* \)\{0,1\}\([^ /]*\) \([0-9]*\) \([0-9]*\) [0-9.]*//f [^/]*//$#\3:\4:\5//\1#p' |
    grep -zv '^[^:]*:[0-9]*:1//' | sed -z 's#:[0-9]*//#//#' | sort -z -T "$STATE" >"$WORK/links.all"
  sort -z -s -u -t / -k 1,1 "$WORK/links.all" >"$WORK/links.first"
  join -z -t / "$WORK/links.all" "$WORK/links.first" | sed -z 's#^[^/]*//##' | sort -z -T "$STATE"
}
