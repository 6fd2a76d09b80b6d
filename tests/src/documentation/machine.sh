# Makes a machine of its own inside fresh namespaces and runs one document's blocks in it.
#
# Started by machine.rs with `unshare` as process 1 of the machine, in the bed's cgroup, which is
# `/` in here. What is written below /etc, /usr, /var and the like is kept in memory and is gone with
# the machine. $1 is the folder of the bed, $2 the tools, $3 the folder of the built programs, $4 the
# source tree, $5 an empty folder for pins.
set -e

# First everything by a path that every user may walk and nothing below covers.
mount -t tmpfs -o mode=755 run /run
mkdir /run/bed /run/tools /run/programs /run/source
mount --bind "$1" /run/bed
mount --bind "$2" /run/tools
mount --bind "$3" /run/programs
mount --bind "$4" /run/source

umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$5" /sys/fs/bpf
ip link set lo up

mkdir /run/memory
for folder in etc usr var opt; do
    mkdir "/run/memory/$folder" "/run/memory/.$folder"
    chmod --reference="/$folder" "/run/memory/$folder"
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=/run/memory/$folder,workdir=/run/memory/.$folder"
done
for folder in home root srv; do
    mount -t tmpfs -o mode=755 "$folder" "/$folder"
done
mkdir -p /usr/local/bin
install -m 755 /run/bed/systemctl /run/bed/journalctl /usr/local/bin/

# A checkout as a document sees it: its own files can be changed, what is built is the test's.
mkdir -p /srv/flect/target/dist
cp -r /run/source/config /srv/flect/
for program in flect flect-agent; do
    touch "/srv/flect/target/dist/$program"
    mount --bind "/run/programs/$program" "/srv/flect/target/dist/$program"
done

# The distribution's Valkey as it comes: on loopback, the default user without a password.
export HOME=/root USER=root LANG=C.UTF-8
ln -s /run/tools/sdk/staged/node_modules "$HOME/node_modules"

mkdir -p /etc/valkey /var/lib/valkey /usr/lib/systemd/system
cat > /etc/valkey/valkey.conf <<END
bind 127.0.0.1 -::1
port 6379
dir /var/lib/valkey
save ""
END
cat > /usr/lib/systemd/system/valkey-server.service <<END
[Service]
ExecStart=/run/tools/bin/valkey-server /etc/valkey/valkey.conf
END

# A second one, for documents that need another server.
cat >> /etc/hosts <<END
127.0.0.2 valkey.staging.example
END
cat > /usr/lib/systemd/system/valkey-staging.service <<END
[Service]
ExecStart=/run/tools/bin/valkey-server --bind 127.0.0.2 --port 6379 --dir /var/lib/valkey --save ""
END

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/tools/bin
systemctl start valkey-server valkey-staging
mkdir -p /sys/fs/cgroup/user.slice/session-1.scope
echo $$ > /sys/fs/cgroup/user.slice/session-1.scope/cgroup.procs
exec bash --noprofile --norc /run/bed/session.sh < /dev/null
