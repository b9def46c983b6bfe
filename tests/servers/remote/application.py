"""Services of all kinds for a Debian host: a script that brings them there."""

# One that hears no SIGTERM, and one that leaves a child behind.
ENDURING = r"""
unit() { cat >/etc/systemd/system/$1; }
unit stubborn.service <<'E'
[Service]
ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'
TimeoutStopSec=600
E
unit leaver.service <<'E'
[Service]
ExecStart=/bin/sh -c 'sleep 601 & exec sleep infinity'
KillMode=process
E
"""

# shop listens and is brought back by a timer; part goes down with it; phoenix is started again and again by a helper,
# as by a monitoring agent; agent is started for each connection; job ends by itself, later does not, and the time of
# their timers is past.
APPLICATION = (
    ENDURING
    + r"""
cat >/usr/local/bin/listen <<'E'
#!/usr/bin/perl
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 5, ReuseAddr => 1) or die "no port: $!";
sleep 1 while 1;
E
chmod 755 /usr/local/bin/listen
unit shop.service <<'E'
[Service]
ExecStart=/usr/local/bin/listen 7001
ExecStop=/bin/sh -c 'echo orderly >>/var/tmp/shop-stopped'
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
E
unit shop.timer <<'E'
[Timer]
OnCalendar=*:*:*
AccuracySec=10ms
[Install]
WantedBy=timers.target
E
unit part.service <<'E'
[Unit]
Requires=shop.service
After=shop.service
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
E
unit phoenix.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
E
unit helper.service <<'E'
[Service]
ExecStart=/bin/sh -c 'while :; do systemctl start phoenix.service; sleep 0.2; done'
E
unit sleepy.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
E
unit agent.socket <<'E'
[Socket]
ListenStream=7006
Accept=yes
E
unit agent@.service <<'E'
[Service]
ExecStart=/bin/sleep 602
StandardInput=socket
E
for name in job later; do
  unit $name.timer <<'E'
[Timer]
OnBootSec=1s
E
done
unit job.service <<'E'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo begun >>/var/tmp/job; sleep 600'
E
unit later.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
E
systemctl daemon-reload
systemctl -q enable --now shop.service shop.timer part.service
systemctl start stubborn.service leaver.service phoenix.service
systemctl -q enable sleepy.service
"""
)
