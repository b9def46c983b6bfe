"""Images of the lab's sources: the shop's database and web server, the file server, and a wiki for a second wave."""

from __future__ import annotations

from migrationhub.lab.recipes.base import BASE, NETWORKD, Recipe

SERVICE = """\
[Unit]
Description={description}
After=network.target{after}

[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/lab/{program}
{environment}Restart=on-failure
RestartSec=2
User={user}

[Install]
WantedBy=multi-user.target
"""


def service(description: str, program: str, user: str, *, after: str = "", **environment: str) -> str:
    """The unit of one of the lab's programs."""
    lines = "".join(f"Environment={name}={value}\n" for name, value in environment.items())
    return SERVICE.format(
        description=description, program=program, user=user, after=after and f" {after}", environment=lines
    )


# About 120 MB with scale 6: over the slow link of `shop-db` the copy spans checkpoints, which come every 30 s.
POSTGRESQL_CONF = """\
port = 5432
listen_addresses = '*'
max_connections = 30
shared_buffers = 32MB
checkpoint_timeout = 30s
min_wal_size = 32MB
max_wal_size = 64MB
timezone = UTC
"""
FILL_DATABASE = """
cat > /etc/postgresql/15/main/pg_hba.conf <<'END'
local all postgres peer
local all all trust
host shop shop 10.0.0.0/8 trust
host shop shop 127.0.0.0/8 trust
END
chown postgres:postgres /etc/postgresql/15/main/*.conf
chown -R postgres:postgres /etc/postgresql/15/main/conf.d
# A build shares the machine's network, where somebody may have this port.
pg_ctlcluster 15 main start -o "-c listen_addresses=''"
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups env HOME=/var/lib/postgresql "$@"; }
cd /
as_postgres psql -qc 'CREATE ROLE shop LOGIN' -c 'CREATE DATABASE shop OWNER shop'
as_postgres pgbench -h /var/run/postgresql -U shop -i -q -s 6 shop 2>&1
as_postgres psql -qd shop -c 'CREATE EXTENSION amcheck'
pg_ctlcluster 15 main stop -m fast
rm -f /var/log/postgresql/*
useradd --uid 3001 --no-create-home --shell /usr/sbin/nologin orders
systemctl enable orders.service
"""
SHOP_DB = Recipe(
    "shop-db",
    BASE,
    packages=("postgresql-15", "python3-psycopg2"),
    files={
        "/etc/postgresql/15/main/conf.d/shop.conf": POSTGRESQL_CONF,
        "/etc/systemd/system/orders.service": service(
            "Orders of the shop",
            "orders.py",
            "orders",
            after="postgresql.service",
            DATABASE_HOST="127.0.0.1",
            ORDERS_INTERVAL="0.2",
        ),
    },
    programs=("orders",),
    commands=FILL_DATABASE,
)

SITE = """\
server {
  listen 80 default_server;
  location / {
    proxy_pass http://127.0.0.1:8080;
    proxy_connect_timeout 3s;
    proxy_read_timeout 10s;
  }
}
"""
SHOP_WEB = Recipe(
    "shop-web",
    BASE,
    packages=("nginx-light", "python3-psycopg2"),
    files={
        "/etc/nginx/sites-available/shop": SITE,
        "/etc/systemd/system/shop.service": service(
            "The shop's application", "shop.py", "shop", DATABASE_HOST="db.shop.lab"
        ),
    },
    programs=("shop",),
    commands=f"""{NETWORKD}
rm -f /etc/nginx/sites-enabled/default
ln -s ../sites-available/shop /etc/nginx/sites-enabled/shop
useradd --uid 3002 --no-create-home --shell /usr/sbin/nologin shop
systemctl enable shop.service nginx.service
""",
    network="networkd",
)

RSYNCD = """\
[files]
path = /srv/files
read only = yes
uid = root
"""
FILES = Recipe(
    "files",
    BASE,
    packages=("btrfs-progs", "python3"),
    files={
        "/etc/rsyncd.conf": RSYNCD,
        "/etc/systemd/system/churn.service": service("Work on the files", "churn.py /srv/files 0.2", "root"),
    },
    programs=("churn", "maketree"),
    commands="systemctl enable churn.service rsync.service\n",
    disk="btrfs",
    # Made in the host, not in the image: the bench asks for more files, and a copy of an image loses what btrfs keeps.
    creation='python3 /usr/local/lib/lab/maketree.py /srv/files "${FILES:-10000}"\n',
)

WIKI = Recipe(
    "wiki",
    BASE,
    packages=("nginx-light",),
    files={"/var/www/html/index.html": "<!doctype html><title>Wiki</title><h1>Wiki</h1>\n"},
    commands="systemctl enable nginx.service\n",
)
