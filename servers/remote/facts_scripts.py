"""The shell programs that tell the facts of a machine: labelled sections, robust to missing tools."""

from __future__ import annotations

from servers.remote.services.look import PORTS

# What a login sees of kernel and memory is the same on a process host: the rest there is limited to its directory.
_COMMON = rf"""
say() {{ echo "@@ $1"; }}
have() {{ command -v "$1" >/dev/null 2>&1; }}
say kernel; uname -r; uname -m
say cpus; getconf _NPROCESSORS_ONLN
say memory; while read -r key value unit; do case $key in MemTotal:|MemAvailable:|SwapTotal:) echo "$key $value" ;; esac
  done < /proc/meminfo
say os; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
say tools
for tool in rsync python3 setfattr getfattr setfacl getfacl setcap sudo btrfs lvcreate zfs ss nft systemd-run; do
  have $tool && echo "$tool $(command -v $tool)"
done
say rsync; rsync --version 2>/dev/null
say python; python3 --version 2>/dev/null
say ports
{PORTS}
"""

SYSTEMD = rf"""
export SYSTEMD_COLORS=0
{_COMMON}
say hostname; hostname 2>/dev/null || cat /proc/sys/kernel/hostname
say machine_id; cat /etc/machine-id 2>/dev/null
say boot_id; cat /proc/sys/kernel/random/boot_id
say uptime; cat /proc/uptime
say virtualization; systemd-detect-virt 2>/dev/null
say space; timeout 20 df -PTB1 2>/dev/null
say inodes; timeout 20 df -Pi 2>/dev/null
say mounts; cat /proc/self/mounts
say addresses; ip -o addr show 2>/dev/null
say links; ip -o link show 2>/dev/null
say routes; ip -4 route show default 2>/dev/null; ip -6 route show default 2>/dev/null
say resolvers; cat /run/systemd/resolve/resolv.conf 2>/dev/null || cat /etc/resolv.conf 2>/dev/null
say network
for unit in systemd-networkd NetworkManager networking wicked; do
  systemctl -q is-active $unit.service 2>/dev/null && echo "active $unit"
done
for file in /etc/netplan/*.yaml; do [ -e "$file" ] && echo "netplan $file"; done
for file in /etc/systemd/network/*.network /run/systemd/network/*.network; do
  [ -e "$file" ] && echo "networkd $file"
done
for file in /etc/network/interfaces /etc/network/interfaces.d/*; do
  [ -f "$file" ] && while read -r word name rest; do
    case $word-$name in iface-lo) ;; iface-*) echo "ifupdown $file" ;; esac
  done < "$file"
done
say units
systemctl list-units --all --no-legend --plain --full --type=service,socket,timer,path 2>/dev/null
say unit_files
systemctl list-unit-files --no-legend --plain --full --type=service,socket,timer,path 2>/dev/null
say packages
if have dpkg-query; then dpkg-query -f '${{db:Status-Abbrev}}\n' -W 2>/dev/null | grep -c '^ii'
elif have rpm; then rpm -qa 2>/dev/null | wc -l
elif have apk; then apk info 2>/dev/null | wc -l; fi
say usr; for name in bin sbin lib; do [ -L /$name ] && echo "$name merged" || echo "$name split"; done
say boot; ls /boot 2>/dev/null
say modules; ls /lib/modules 2>/dev/null
say btrfs; have btrfs && btrfs subvolume show / 2>/dev/null | head -n 1
say lvm; root=$(while read -r device where rest; do [ "$where" = / ] && echo "$device"; done < /proc/self/mounts)
have lvs && lvs --noheadings --units b --nosuffix -o lv_path,vg_free "$root" 2>/dev/null
say databases
for p in /proc/[0-9]*; do
  {{ IFS= read -r name < "$p/comm"; }} 2>/dev/null || continue
  case $name in
  postgres|postmaster|mysqld|mariadbd|mongod|redis-server|slapd|oracle|sqlservr)
    printf 'open\t%s\t%s\t%s\n' "$name" "${{p#/proc/}}" "$(readlink "$p/cwd" 2>/dev/null)" ;;
  esac
done
for file in /var/lib/postgresql/*/*/PG_VERSION /var/lib/pgsql/data/PG_VERSION /var/lib/pgsql/*/data/PG_VERSION \
  /srv/*/PG_VERSION; do [ -f "$file" ] && printf 'found\tpostgresql\t\t%s\n' "${{file%/PG_VERSION}}"; done
for file in /var/lib/mysql/ibdata1; do [ -f "$file" ] && printf 'found\tmysql\t\t%s\n' "${{file%/*}}"; done
[ -f /var/lib/mongodb/WiredTiger ] && printf 'found\tmongodb\t\t/var/lib/mongodb\n'
[ -f /var/lib/redis/dump.rdb ] && printf 'found\tredis\t\t/var/lib/redis\n'
[ -d /var/lib/ldap ] && [ -f /var/lib/ldap/data.mdb ] && printf 'found\tldap\t\t/var/lib/ldap\n'
exit 0
"""

# Runs in the host's directory; nothing here may call systemctl, ip and the like.
SUPERVISORD = rf"""
{_COMMON}
say machine_id; cat etc/machine-id 2>/dev/null
say boot_id; cat run/boot_id 2>/dev/null
say space; df -PTB1 . 2>/dev/null
say inodes; df -Pi . 2>/dev/null
say resolvers; cat etc/resolv.conf 2>/dev/null
say programs; supervisorctl -c etc/supervisord.conf status 2>/dev/null
say databases
find . -maxdepth 5 -name PG_VERSION -path '*/PG_VERSION' 2>/dev/null | while IFS= read -r file; do
  at=${{file%/PG_VERSION}}
  [ -f "$at/postgresql.conf" ] || [ -d "$at/global" ] || continue
  if [ -f "$at/postmaster.pid" ]; then
    {{ read -r pid; }} < "$at/postmaster.pid"
    printf 'open\tpostgres\t%s\t%s\n' "$pid" "$PWD/${{at#./}}"
  fi
  printf 'found\tpostgresql\t\t%s\n' "$PWD/${{at#./}}"
done
exit 0
"""
