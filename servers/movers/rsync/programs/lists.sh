# On the source: what to send and what to remove, from the lists of both sides.
DIRECTORY='^[^/]*\(/[^/][^/]*\)*//d ' # a record as `shared` makes it

read_target() { # file that the target's answer is in
  gzip -dc "$1.gz" >"$1" || fail 73 "The target's list came damaged."
  [ "$(tail -c 2 "$1" | tr '\0' .)" = E. ] || fail 73 "The target's list came incomplete."
  sed -nz 's/^M//p' "$1" >t.shared
  sed -nz 's/^L//p' "$1" >t.links
  sed -nz 's/^C//p' "$1" >t.changed
  [ -e discarded ] || sed -nz 's/^D//p' "$1" >discarded
  TARGET_FULL=$(sed -nz 's/^F//p' "$1" | tr -d '\0')
  paths t.shared | sort -z -T "$STATE" >t.paths
  sound t.shared t.links t.changed discarded t.paths
  rm -f "$1" "$1.gz"
}

compare_with_last() {
  now=$STATE/$ID.source
  fresh
  why=${FULL:-$(unusable "$STATE/$LAST.source")}
  why=${why:-$TARGET_FULL}
  FULL_OPTION=--ignore-times
  shared "$now" >s.shared
  paths "$now" | sort -z -T "$STATE" >s.paths
  links "$now" >source.links
  if [ -n "$why" ]; then
    printf '%s\n' "$why" >"$JOB/full"
    # Both sides may hold files that look alike and are not; on a first sync nearly all are sent anyway.
    [ "$KIND" = initial ] || FULL_OPTION=--checksum
    sort -zmu s.paths t.paths >changed.now
    [ ! -e "$JOB/rules" ] || WHOLE=1
  else
    changed "$STATE/$LAST.source" "$now" >s.changed
    differences s.shared t.shared | sort -zu -T "$STATE" - s.changed t.changed >changed.now
    # Compared by content at the end, whoever changed what and when.
    touch "$STATE/changed-on-target"
    sort -zmu discarded "$STATE/changed-on-target" >changed-on-target
    mv -f changed-on-target "$STATE/changed-on-target" || fail 78 "$STATE cannot be written."
    unrecorded >ours
    comm -z -23 discarded ours >others && mv -f others discarded
  fi
  divide
}

# What was sent and removed since the sync that this one is compared with, by syncs that did not come to their end and
# by such as did, of which nobody knows: their end was not recorded, or what came of them was refused.
unrecorded() {
  set --
  for list in "$STATE"/unfinished "$STATE"/of-*; do
    [ ! -e "$list" ] || [ "$list" = "$STATE/of-$LAST" ] || set -- "$@" "$list"
  done
  [ $# = 0 ] || sort -zmu "$@"
}

# What the comparison writes: where it cannot be written, that of the last round must not stand for it.
COMPARED="s.shared s.paths source.links changed.now send.changed send.named send.all send remove remove.early remove.late"

fresh() {
  rm -f $COMPARED || broke $? "removing the old lists"
}

compare_round() { # list of the source before, now
  fresh
  links "$2" >source.links
  shared "$2" >s.shared
  paths "$2" | sort -z -T "$STATE" >s.paths
  {
    changed "$1" "$2"
    differences s.shared t.shared
    differences source.links t.links
  } | sort -zu -T "$STATE" >changed.now
  divide
}

divide() {
  comm -z -12 changed.now s.paths >send.changed
  whole_groups
  # Writing a file moves the mtime of its directory.
  sed -nz 's#/[^/]*$##p' send.named | sort -zu -T "$STATE" | comm -z -12 - s.paths | sort -zmu - send.named >send.all
  without_root send.all >send
  if [ ! -s send ] && [ -s send.all ]; then # only the root itself changed: it comes along with anything else
    without_root s.paths | sed -zn 1p >send # reads to the end: `head` would leave who writes to it with an error
  fi
  comm -z -23 changed.now s.paths | comm -z -12 - t.paths >remove
  order_removals
  sound $COMPARED
}

# A hard link that comes without the rest of its group would be a file of its own. The rest need not have changed:
# renaming a directory moves no ctime of what is in it.
whole_groups() {
  one_word <links.all | sed -z 's#^\([^\x01]*\)\x01\x01\(.*\)$#\2/\1#' | sort -z -t / -k 1,1 -T "$STATE" >links.keys
  one_word <send.changed | sort -z -T "$STATE" >send.words
  join -z -t / -o 1.2 links.keys send.words | sort -zu >groups
  join -z -t / links.all groups | sed -z 's#^[^/]*//##' | sort -zu -T "$STATE" - send.changed >send.named
}

one_word() { # paths without a slash, as fields for join; any byte may be in a name
  sed -z 's/\x02/\x02b/g; s/\x01/\x02a/g; s#/#\x01#g'
}

without_root() { # list
  grep -zvx '\.' "$1"
  :
}

# Most goes before the copy, because it makes room; libraries and programs go after it, so that the target can
# always run what it runs. Below a directory that becomes something else everything must go before.
order_removals() {
  if [ ! -s remove ]; then
    true >remove.early && true >remove.late
    return
  fi
  grep -zvE '^(usr|lib[^/]*|bin|sbin|etc)(/|$)' remove >remove.early
  source_others
  grep -z "$DIRECTORY" t.shared | paths - | sort -z -T "$STATE" >t.directories
  comm -z -12 s.others t.directories | sed -z '/\n/d; s/[][\.*^$]/\\&/g; s#^#^#; s#$#/#' | tr '\0' '\n' >becoming
  if [ -s becoming ]; then
    grep -z -f becoming remove | sort -zmu - remove.early >remove.now
    mv -f remove.now remove.early
  fi
  comm -z -23 remove remove.early >remove.late
}

source_others() { # all but the directories
  grep -zv "$DIRECTORY" s.shared | paths - | sort -z -T "$STATE" >s.others
}

total() { # of numbers, one a line: thousands at a time, because a shell reads a pipe byte by byte
  xargs -r -n 2000 sh -c 'IFS=+; echo "$(($*))"' sum | {
    sum=0
    while read -r part; do sum=$((sum + part)); done
    echo "$sum"
  }
}

names_of() { # list: some of it for a sentence
  command head -zn 5 "$1" | tr '\0\n' ';?' | head -c 600
}
