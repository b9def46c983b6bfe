"""The database itself refuses to change or delete what was recorded, whoever asks: by vendor, made by a migration.

PostgreSQL refuses UPDATE, DELETE and TRUNCATE. SQLite has no TRUNCATE; it refuses UPDATE, DELETE and an INSERT that
would replace a row. (SQLite drops triggers with their table: a later migration that rebuilds the table makes them
again.) Whoever owns the database can drop a trigger; nothing in the application does.
"""

from __future__ import annotations

from typing import Any

TABLE = "audit_auditevent"
WORDS = "The audit trail is append-only."

MAKE: dict[str, list[str]] = {
    "sqlite": [
        f"CREATE TRIGGER audit_keeps_updates BEFORE UPDATE ON {TABLE} BEGIN SELECT RAISE(ABORT, '{WORDS}'); END",
        f"CREATE TRIGGER audit_keeps_deletes BEFORE DELETE ON {TABLE} BEGIN SELECT RAISE(ABORT, '{WORDS}'); END",
        "CREATE TRIGGER audit_keeps_inserts BEFORE INSERT ON audit_auditevent WHEN NEW.id IN (SELECT id FROM "
        "audit_auditevent) BEGIN SELECT RAISE(ABORT, 'The audit trail is append-only.'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{WORDS}' USING ERRCODE = 'restrict_violation'; END $$",
        f"CREATE TRIGGER audit_keeps_rows BEFORE UPDATE OR DELETE ON {TABLE} "
        "FOR EACH ROW EXECUTE FUNCTION audit_keeps()",
        f"CREATE TRIGGER audit_keeps_all BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION audit_keeps()",
    ],
}
DROP: dict[str, list[str]] = {
    "sqlite": [f"DROP TRIGGER IF EXISTS audit_keeps_{what}" for what in ("updates", "deletes", "inserts")],
    "postgresql": [
        f"DROP TRIGGER IF EXISTS audit_keeps_rows ON {TABLE}",
        f"DROP TRIGGER IF EXISTS audit_keeps_all ON {TABLE}",
        "DROP FUNCTION IF EXISTS audit_keeps()",
    ],
}


def make(apps: Any, editor: Any) -> None:
    """For `migrations.RunPython`: the triggers of this vendor."""
    for statement in [*DROP.get(editor.connection.vendor, []), *MAKE.get(editor.connection.vendor, [])]:
        editor.execute(statement)


def drop(apps: Any, editor: Any) -> None:
    for statement in DROP.get(editor.connection.vendor, []):
        editor.execute(statement)
