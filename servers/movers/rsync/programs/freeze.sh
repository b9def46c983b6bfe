# On the source: what makes the copied data consistent. Each part may be called when nothing is to be done.
LIVE=

freeze() {
  case $FREEZE in
    postgresql) postgresql_freeze ;;
  esac
}

# After the copy. What was lost on the way makes this sync a live one: said, never hidden.
end_freeze() {
  case $FREEZE in
    postgresql) postgresql_end ;;
    snapshot-*)
      full=$(overflowed) && fail 79 "$full had no room left for what changed meanwhile."
      drop_view
      drop_snapshots "$ID"
      live_databases "$STATE/$ID.source"
      ;;
  esac
}

# At the end of the program, however it comes: nothing stays frozen, no snapshot stays.
thaw() {
  case $FREEZE in
    postgresql)
      exec 5>&-
      [ -z "${PSQL:-}" ] || { sleep 0.2; kill "$PSQL" 2>/dev/null; wait "$PSQL" 2>/dev/null; }
      ;;
    snapshot-*)
      if [ "$status" != 0 ] && full=$(overflowed); then # whatever failed first: this is why
        status=79
        printf '%s\n' "$full had no room left for what changed meanwhile." >"$JOB/error"
      fi
      drop_view
      drop_snapshots "$ID"
      ;;
  esac
}

became_live() { # sentence
  LIVE=1
  note "$1"
  true >"$JOB/live"
}

as_owner() { # run as the user of the database
  if [ "$(id -u)" != 0 ] || [ "$PG_USER" = root ]; then
    "$@"
  else
    setpriv --reuid="$PG_USER" --regid="$(id -gn "$PG_USER")" --init-groups -- "$@"
  fi
}

# One session holds the slot, which keeps the log, and backup mode; it ends with this program.
postgresql_freeze() {
  mkfifo psql.in && true >psql.out && true >psql.errors || fail 74 "$WORK cannot be written."
  [ -x "$PG_BIN/psql" ] && psql=$PG_BIN/psql || psql=psql
  # From the directory's own user's view: psql wants a working directory that it may read.
  (cd / && as_owner "$psql" -X -q -A -t -v ON_ERROR_STOP=1 -U "$PG_ROLE" -p "$PG_PORT" ${PG_HOST:+-h "$PG_HOST"} -d "$PG_DATABASE") \
    <psql.in >psql.out 2>psql.errors 9>&- &
  PSQL=$!
  exec 5>psql.in
  ask "SELECT set_config(name, '0', false) FROM pg_settings
       WHERE name IN ('statement_timeout', 'idle_session_timeout', 'lock_timeout');
       SELECT 'version:' || current_setting('server_version_num');" version 60 ||
    fail 74 "psql could not log in as $PG_ROLE on port $PG_PORT: $(head -c 400 psql.errors)"
  version=$(sed -n 's/^version://p' psql.out)
  [ "$version" -ge 100000 ] || fail 74 "PostgreSQL $version is too old: backup mode with a slot needs 10 or newer."
  if [ "$version" -ge 150000 ]; then
    start=pg_backup_start\(\'migrationhub\',\ true\)
    stop='SELECT labelfile, spcmapfile FROM pg_backup_stop(false)'
  else
    start=pg_start_backup\(\'migrationhub\',\ true,\ false\)
    stop='SELECT labelfile, spcmapfile FROM pg_stop_backup(false, false)'
  fi
  ask "SELECT slot_name FROM pg_create_physical_replication_slot('$PG_SLOT', true, true);
       SELECT $start;" start 900 || fail 74 "PostgreSQL refused backup mode: $(head -c 400 psql.errors)"
}

ask() { # statements, word that ends the answer, seconds
  (printf '%s\n\\echo done-%s\n' "$1" "$2" >&5) 2>/dev/null || return 1
  waited=0
  until grep -q "^done-$2\$" psql.out; do
    kill -0 "$PSQL" 2>/dev/null || return 1
    [ $waited -lt $(($3 * 10)) ] || return 1
    waited=$((waited + 1))
    sleep 0.1
  done
}

postgresql_end() {
  phase finishing-database
  mkdir -p "stage/$PG_DATA"
  if ask "SELECT 'label:' || translate(encode(convert_to(labelfile, 'UTF8'), 'base64'), E'\n', '') || ':' ||
          translate(encode(convert_to(coalesce(spcmapfile, ''), 'UTF8'), 'base64'), E'\n', '')
          FROM ($stop) AS ended;
          SELECT 'needed:' || name || ' = ' || setting FROM pg_settings WHERE name IN ('max_connections',
            'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction');" \
    stop 900; then
    sed -n 's/^label:\([^:]*\):.*/\1/p' psql.out | base64 -d >"stage/$PG_DATA/backup_label"
    sed -n 's/^label:[^:]*://p' psql.out | base64 -d >"stage/$PG_DATA/tablespace_map"
    [ -s "stage/$PG_DATA/tablespace_map" ] || rm -f "stage/$PG_DATA/tablespace_map"
    postgresql_recovery
  fi
  [ -s "stage/$PG_DATA/backup_label" ] ||
    became_live "The database session was lost during the copy ($(head -c 200 psql.errors | tr '\n' ' ')): this copy is not consistent."
  printf '%s\0' "$PG_DATA/pg_wal" >wal
  if [ -L "$ROOT/$PG_DATA/pg_wal" ]; then # kept elsewhere: the link alone would bring an old log
    place=$(readlink -f "$ROOT/$PG_DATA/pg_wal")
    place=${place#"${ROOT%/}"/}
    printf '%s\0' "$place" >>wal
  fi
  send wal -r --delete --ignore-times
  [ -n "$LIVE" ] || send_label
  exec 5>&- # only now may the server drop the log and leave the slot
  wait "$PSQL" 2>/dev/null
  PSQL=
}

# With its label alone a copy whose first recovery was cut off (a restart, a kill) is taken for a server that had
# crashed, and never starts again: “WAL ends before end of online backup”. As archive recovery it may be cut off any
# number of times. The server's own settings for recoveries (a target, an archive) must not have a say in it.
postgresql_recovery() {
  if [ "$version" -lt 120000 ]; then
    note "PostgreSQL before 12: let the clone's first start come to its end; cut off, the next delta mends it."
    return
  fi
  true >"stage/$PG_DATA/recovery.signal"
  {
    cat "$ROOT/$PG_DATA/postgresql.auto.conf" 2>/dev/null
    printf '\n# migrationhub: for the recovery of this copy\n'
    printf "%s = ''\n" recovery_target recovery_target_name recovery_target_time recovery_target_xid \
      recovery_target_lsn recovery_end_command archive_cleanup_command
    # All of the log is in pg_wal: there is nothing to be restored from anywhere.
    printf "restore_command = 'false'\nrecovery_target_timeline = 'current'\nhot_standby = 'on'\n"
    sed -n 's/^needed://p' psql.out # recovery wants no less than the source had, and /etc need not be the source's
  } >"stage/$PG_DATA/postgresql.auto.conf"
}

send_label() {
  chown --reference="$ROOT/$PG_DATA" "stage/$PG_DATA"/* 2>/dev/null
  (cd stage && find "$PG_DATA" -type f -print0) >label
  TREE=$WORK/stage
  prefix=$PREFIX
  PREFIX=/ # with “./” the mode of the staging directory would go to the target's root
  send label --no-implied-dirs --ignore-times
  PREFIX=$prefix
  TREE=$ROOT
}

# What base writes on a host whose services are stopped: after everything else, nothing of it is deleted.
send_base_written() {
  cp "$JOB/base-written" base-written
  TOLERATED="$TOLERATED 24" # journals come and go, and the proof leaves them out
  send base-written -r --ignore-times
  # Of a whole system everybody expects that; of directories that somebody named it is said.
  [ "$PREFIX" = / ] && [ -s base-written ] || return 0
  (cd "$ROOT" && xargs -0 -r sh -c 'for one; do [ ! -e "$one" ] || printf "/%s\n" "$one"; done' each) <base-written >beside
  [ ! -s beside ] || note "Written by the machine itself, so sent last and outside the proof: $(in_words beside)."
}

in_words() { # file of lines
  sed -z 's/\n$//; s/\n/, /g' "$1"
}
