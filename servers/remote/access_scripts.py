"""The POSIX shell programs that open, show and close our access; `access` fills in the `@NAME@` marks.

They run as cloud-init user data, as an execution request of the hypervisor, or pasted into a console, so they
need nothing but sh, coreutils, OpenSSH and systemd, read no standard input and may run any number of times.
"""

from __future__ import annotations

# sshd asks PAM only for the account and the session, under a service name of our own that asks nobody. Without
# PAM, sshd refuses root whose password is locked ("!" in shadow), as on many machines administered by sudo: the
# first sync would bring that shadow file and lock us out. sshd takes the service name from the name it is
# started by (before 9.8) or from PAMServiceName (since).
OPEN_SYSTEMD = r"""#!/bin/sh
# @MARK@: lets migrationhub reach this machine while it is being filled; removed at the end.
set -eu
umask 077
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
fail() { echo "@MARK@: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "must run as root; run it as root."
[ -d /run/systemd/system ] || fail "systemd does not run here; it is needed."
sshd=$(command -v sshd) || fail "sshd is missing; install openssh-server and run this again."
write() { cat >"$1.new"; chmod "$2" "$1.new"; mv -f "$1.new" "$1"; }
mkdir -p @CONFIG@ /var/lib/migrationhub /run/migrationhub /run/sshd
chmod 0755 /run/sshd
key=@CONFIG@/ssh_host_ed25519_key
if ! ssh-keygen -y -f $key >/dev/null 2>&1; then
  rm -f $key $key.pub
  ssh-keygen -q -t ed25519 -N '' -C @MARK@ -f $key
fi
ln -sfn "$sshd" @CONFIG@/@MARK@
write @CONFIG@/authorized_keys 0600 <<'END'
@KEY@
END
[ -e @CONFIG@/transfer_keys ] || : >@CONFIG@/transfer_keys
write /etc/pam.d/@MARK@ 0644 <<'END'
auth required pam_deny.so
account required pam_permit.so
password required pam_deny.so
session required pam_permit.so
END
write @CONFIG@/sshd_config 0600 <<'END'
Port @PORT@
HostKey @CONFIG@/ssh_host_ed25519_key
PidFile /run/migrationhub/access.pid
AuthorizedKeysFile @CONFIG@/authorized_keys @CONFIG@/transfer_keys
AllowUsers root
PermitRootLogin prohibit-password
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
UsePAM yes
PAMServiceName @MARK@
X11Forwarding no
AllowTcpForwarding no
AllowAgentForwarding no
AllowStreamLocalForwarding no
PermitTunnel no
PermitUserRC no
PermitUserEnvironment no
PrintMotd no
PrintLastLog no
UseDNS no
LoginGraceTime 20
MaxStartups 30:30:100
MaxSessions 50
ClientAliveInterval 15
ClientAliveCountMax 4
Subsystem sftp internal-sftp
END
if ! sshd -t -f @CONFIG@/sshd_config 2>/dev/null; then
  grep -v '^PAMServiceName ' @CONFIG@/sshd_config | write @CONFIG@/sshd_config 0600
  sshd -t -f @CONFIG@/sshd_config || fail "sshd refuses its configuration, see above."
fi
write /etc/systemd/system/@UNIT@ 0644 <<'END'
[Unit]
Description=Access of migrationhub
# Up early, so that a broken unit of the copied system does not keep us out; kept when all else is stopped.
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Conflicts=shutdown.target
Before=shutdown.target
IgnoreOnIsolate=yes
StartLimitIntervalSec=0
[Service]
# ssh.service removes /run/sshd when it stops, and sshd needs it for each login: a mount point stays.
ExecStartPre=/bin/sh -c 'mkdir -p -m 0700 /run/migrationhub; mkdir -p -m 0755 /run/sshd'
ExecStartPre=-/bin/sh -c 'mountpoint -q /run/sshd || mount --bind /run/sshd /run/sshd'
ExecStart=@CONFIG@/@MARK@ -D -f @CONFIG@/sshd_config
KillMode=process
Restart=always
RestartSec=1
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
END
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sfn ../@UNIT@ /etc/systemd/system/multi-user.target.wants/@UNIT@
systemctl daemon-reload
systemctl restart @UNIT@
n=0
until [ -s /run/migrationhub/access.pid ] && systemctl -q is-active @UNIT@; do
  n=$((n + 1))
  [ $n -lt 50 ] || fail "does not start; look at: journalctl -u @UNIT@"
  sleep 0.2
done
echo "@MARK@: open on port @PORT@"
"""

OPEN_SUPERVISORD = r"""#!/bin/sh
# @MARK@: lets migrationhub reach this machine while it is being filled; removed at the end.
set -eu
umask 077
home=@HOME@
[ -f "$home/etc/supervisord.conf" ] || { echo "@MARK@: $home is not a host under supervisord." >&2; exit 1; }
mkdir -p "$home/.ssh" "$home/run/migrationhub" "$home/var/lib/migrationhub"
keys=$home/.ssh/authorized_keys
: >"$keys.new"
[ ! -e "$keys" ] || grep -v ' @MARK@$' "$keys" >"$keys.new" || :
echo '@KEY@' >>"$keys.new"
chmod 0600 "$keys.new"
mv -f "$keys.new" "$keys"
echo "@MARK@: open on port @PORT@"
"""

READ_BACK = r"""#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
home=@HOME@
[ -r "@HOSTKEY@" ] || { echo "@MARK@: no host key yet: the access was not opened." >&2; exit 1; }
echo "@LABEL@-host-key: $(@SHOWKEY@ "@HOSTKEY@")"
echo "@LABEL@-port: @PORT@"
"""

# A unit of its own runs the removal: it must outlive the session that asks for it.
CLOSE_SYSTEMD = r"""#!/bin/sh
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
systemctl reset-failed @MARK@-removal.service 2>/dev/null || :
systemd-run --quiet --no-block --collect --unit=@MARK@-removal /bin/sh -c '
sleep 1
rm -f /etc/systemd/system/multi-user.target.wants/@UNIT@
systemctl kill --signal=KILL @UNIT@
systemctl stop @UNIT@
rm -f /etc/systemd/system/@UNIT@ /etc/pam.d/@MARK@
systemctl daemon-reload
systemctl reset-failed @UNIT@
umount -l /run/sshd
rm -rf @CONFIG@ /var/lib/migrationhub /run/migrationhub
for file in /var/lib/cloud/seed/*/user-data /var/lib/cloud/instances/*/user-data.txt* \
  /var/lib/cloud/instances/*/scripts/part-*; do
  [ ! -f "$file" ] || ! grep -q "^# @MARK@:" "$file" || rm -f "$file"
done
'
echo "@MARK@: closing"
"""

CLOSE_SUPERVISORD = r"""#!/bin/sh
set -eu
umask 077
home=@HOME@
keys=$home/.ssh/authorized_keys
if [ -e "$keys" ]; then
  grep -v -e ' @MARK@$' -e ' @TRANSFER@$' "$keys" >"$keys.new" || :
  mv -f "$keys.new" "$keys"
fi
rm -rf "$home/run/migrationhub" "$home/var/lib/migrationhub"
echo "@MARK@: closing"
"""
