#!/usr/bin/env bash
# debian_package.sh PACKAGE PORT: installs, starts, scrapes and purges the Debian package, for test_debian.py.
# All in an overlay over this machine's own system, in namespaces of its own: nothing of it is left, not even by a crash.
# Prints one line for each claim; what the purge left behind comes last, after "left:".
set -euo pipefail
package=$(realpath -- "$1")
port=$2
if [ "${3:-}" != inside ]; then
    exec unshare --mount --pid --fork --kill-child "$0" "$package" "$port" inside
fi

work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
system=$work/system
mkdir "$work/changes" "$work/scratch" "$system"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/changes,workdir=$work/scratch" "$system"
mount -t proc proc "$system/proc"
mount --rbind /dev "$system/dev"
mount -t tmpfs tmpfs "$system/tmp"
mount -t tmpfs tmpfs "$system/run"
cp "$package" "$system/tmp/package.deb"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
inside() { chroot "$system" "$@"; }
name=qlik-license-exporter

inside dpkg -i /tmp/package.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log"; exit 1; }
# shellcheck disable=SC2016  # dpkg-query fills it in
echo "installed: $(inside dpkg-query -W -f '${Status}' $name)"
inside systemd-analyze verify --man=no /usr/lib/systemd/system/$name.service /usr/lib/systemd/system/$name@node1.service
echo "units verified"

# As documented: a copy for one more node is read by the service, and by nobody else.
inside cp /etc/$name/config.yml /etc/$name/node1.yml
inside setpriv --reuid $name --regid $name --init-groups cat /etc/$name/node1.yml >/dev/null
if inside setpriv --reuid nobody --regid nogroup --clear-groups cat /etc/$name/node1.yml >/dev/null 2>&1; then exit 1; fi
rm "$system/etc/$name/node1.yml"
echo "copies of the configuration are readable: for the service alone"
# An administrator who removed the configuration can still configure the package, and keeps it removed.
mv "$system/etc/$name/config.yml" "$system/tmp/config.yml"
inside env DPKG_MAINTSCRIPT_PACKAGE=$name /var/lib/dpkg/info/$name.postinst configure 0.0 >>"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log"; exit 1; }
[ ! -e "$system/etc/$name/config.yml" ] && echo "configured without its configuration file"
mv "$system/tmp/config.yml" "$system/etc/$name/config.yml"

# As the unit does it: its command, its user, no capability, a state folder, no new rights, no writable code.
inside install -d -m 700 -o $name -g $name /var/lib/$name
printf 'probes: []\nweb: {listen_addresses: ["127.0.0.1:%s"]}\n' "$port" >>"$system/etc/$name/config.yml"
command=$(sed -n 's/^ExecStart=//p' "$system/usr/lib/systemd/system/$name.service")
# shellcheck disable=SC2086  # the unit's command is split into words, as systemd does it
chroot "$system" setpriv --reuid $name --regid $name --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    env -i STATE_DIRECTORY=/var/lib/$name PATH=/usr/bin python3 -c '
import ctypes, os, sys
DENY_WRITE_EXECUTE, REFUSE_EXEC_GAIN = 65, 1  # prctl PR_SET_MDWE: MemoryDenyWriteExecute=
if ctypes.CDLL(None).prctl(DENY_WRITE_EXECUTE, REFUSE_EXEC_GAIN, 0, 0, 0):
    print("note: this kernel has no PR_SET_MDWE")
os.execv(sys.argv[1], sys.argv[1:])' $command >"$work/exporter.log" 2>&1 &
exporter=$!
for _ in $(seq 300); do
    metrics=$(inside python3 -I -c '
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "http://127.0.0.1:$port/metrics" 2>/dev/null) && break
    kill -0 $exporter 2>/dev/null || break
    sleep 0.1
done
[ -n "$metrics" ] || { cat "$work/exporter.log"; exit 1; }
echo "scraped: $(grep '^qlik_license_exporter_build_info' <<<"$metrics")"
kill -TERM $exporter
wait $exporter && code=0 || code=$?
echo "stopped: $code"
[ -s "$system/var/lib/$name/state.db" ] && echo "state kept: $(inside stat -c '%U %a' /var/lib/$name)"

inside dpkg -r $name >>"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log"; exit 1; }
[ -e "$system/etc/$name/config.yml" ] && [ -e "$system/var/lib/$name/state.db" ] && echo "removed: configuration and state stay"
inside dpkg -P $name >>"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log"; exit 1; }
echo "left:"
# Not counted: dpkg's own records, the index of man pages, and the account, which Debian never deletes; nor what this
# machine itself had and the overlay shows as removed (a device of type c).
cd "$work/changes"
find . ! -type d ! -type c ! -path './var/lib/dpkg/*' ! -path './var/log/*' ! -path './var/lib/systemd/deb-systemd-helper*' \
    ! -path './var/cache/man/*' ! -regex '\./etc/\(passwd\|group\|shadow\|gshadow\)-?' ! -path './etc/.pwd.lock' | sort
find . ! -type c -name "*$name*" | sort
