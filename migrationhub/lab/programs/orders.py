"""The service “orders” of the lab's shop: inserts rows with a gapless number until it is told to stop.

Runs on the lab's hosts by itself, with psycopg or psycopg2. Environment: DATABASE_HOST, DATABASE_PORT,
DATABASE_NAME, DATABASE_USER (libpq's own variables apply too), MACHINE_ID_FILE, ORDERS_INTERVAL (seconds
between two rows).
"""

import os
import random
import signal
import sys
import threading
from pathlib import Path

try:
    import psycopg as database
except ImportError:
    import psycopg2 as database

TABLE = """
CREATE TABLE IF NOT EXISTS orders (
    number bigint PRIMARY KEY,
    written_by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    amount numeric(10, 2) NOT NULL
)
"""
# The lock keeps the number gapless even with a second writer by mistake; the rows then tell whose it was.
INSERT = """
INSERT INTO orders (number, written_by, amount)
SELECT coalesce(max(number), 0) + 1, %s, %s FROM orders RETURNING number
"""


def settings():
    return {
        "host": os.environ.get("DATABASE_HOST", "127.0.0.1"),
        "port": int(os.environ.get("DATABASE_PORT", "5432")),
        "dbname": os.environ.get("DATABASE_NAME", "shop"),
        "user": os.environ.get("DATABASE_USER", "shop"),
        "connect_timeout": 5,
    }


def machine_id():
    return Path(os.environ.get("MACHINE_ID_FILE", "/etc/machine-id")).read_text(encoding="ascii").strip()


def write(connection, writer):
    """One order in one transaction; returns its number."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE orders IN EXCLUSIVE MODE")
        cursor.execute(INSERT, (writer, round(random.uniform(1, 500), 2)))
        number = cursor.fetchone()[0]
    connection.commit()
    return number


def serve(stop, interval, writer):
    """Insert until the connection breaks or `stop` is set."""
    connection = database.connect(**settings())
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('orders')")
            if cursor.fetchone()[0] is None:
                cursor.execute(TABLE)
        connection.commit()
        number = 0
        while not stop.is_set():
            number = write(connection, writer)
            if number % 100 == 0:
                print(f"order {number}", flush=True)
            stop.wait(interval)
        print(f"stopped after order {number}", flush=True)
    finally:
        connection.close()


def main():
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    interval = float(os.environ.get("ORDERS_INTERVAL", "0.2"))
    writer = machine_id()
    while not stop.is_set():
        try:
            serve(stop, interval, writer)
        except database.Error as error:
            print(f"the database does not answer: {str(error).strip()}", file=sys.stderr, flush=True)
            stop.wait(1)


if __name__ == "__main__":
    main()
