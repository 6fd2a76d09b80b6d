#!/bin/bash
# Stands in for systemctl in a documentation machine, which has no systemd: it starts what the unit
# file says, in the cgroup that systemd would give it, and waits until the service answers.
set -e
verb= units=()
for word in "$@"; do
    case $word in
        --now) now=yes ;;
        -*) ;;
        *) if [ -z "$verb" ]; then verb=$word; else units+=("${word%.service}"); fi ;;
    esac
done

file_of() {
    for folder in /etc/systemd/system /usr/lib/systemd/system; do
        if [ -f "$folder/$1.service" ]; then
            echo "$folder/$1.service"
            return
        fi
    done
    echo "Unit $1.service not found." >&2
    exit 5
}

setting() {
    sed -n "s/^$2=//p" "$1"
}

# The rights that the unit leaves the service, as systemd takes the others away.
rights() {
    local set
    set=$(setting "$1" CapabilityBoundingSet | tr ' ' '\n' | sed 's/^CAP_/,+/' | tr -d '\n')
    if [ -n "$set" ]; then
        echo "setpriv --no-new-privs --bounding-set=-all${set,,} --inh-caps=-all --"
    fi
}

answers() {
    case $1 in
        flect-agent) flect status > /dev/null 2>&1 ;;
        valkey-server) valkey-cli ping > /dev/null 2>&1 ;;
        *) true ;;
    esac
}

start() {
    local file group=/sys/fs/cgroup/system.slice/$1.service folder command
    file=$(file_of "$1")
    mkdir -p "$group" /var/log/journal
    if [ -n "$(cat "$group/cgroup.procs")" ]; then
        return
    fi
    for folder in $(setting "$file" RuntimeDirectory); do
        mkdir -p "/run/$folder"
        chmod "$(setting "$file" RuntimeDirectoryMode | grep . || echo 755)" "/run/$folder"
    done
    while read -r command; do
        $command >> "/var/log/journal/$1" 2>&1 || {
            echo "Job for $1.service failed: ExecStartPre" >&2
            exit 1
        }
    done < <(setting "$file" ExecStartPre)
    (
        echo $BASHPID > "$group/cgroup.procs"
        umask "$(setting "$file" UMask | grep . || echo 022)"
        exec setsid $(rights "$file") $(setting "$file" ExecStart) >> "/var/log/journal/$1" 2>&1 < /dev/null
    ) &
    for _ in $(seq 600); do
        if answers "$1"; then
            return
        fi
        if ! kill -0 $! 2> /dev/null; then
            break
        fi
        sleep 0.1
    done
    echo "Job for $1.service failed, its log says:" >&2
    tail -n 20 "/var/log/journal/$1" >&2
    exit 1
}

stop() {
    local group=/sys/fs/cgroup/system.slice/$1.service
    if [ -d "$group" ]; then
        xargs -r kill < "$group/cgroup.procs" || true
        while [ -n "$(cat "$group/cgroup.procs")" ]; do
            sleep 0.02
        done
    fi
}

for unit in "${units[@]}"; do
    case $verb in
        enable) file_of "$unit" > /dev/null; if [ -n "$now" ]; then start "$unit"; fi ;;
        disable) if [ -n "$now" ]; then stop "$unit"; fi ;;
        start) start "$unit" ;;
        stop) stop "$unit" ;;
        restart) stop "$unit"; start "$unit" ;;
        reload) xargs kill -HUP < "/sys/fs/cgroup/system.slice/$unit.service/cgroup.procs" ;;
        is-active)
            if [ -n "$(cat "/sys/fs/cgroup/system.slice/$unit.service/cgroup.procs")" ]; then
                echo active
            else
                echo inactive
                exit 3
            fi ;;
        *) echo "systemctl stand-in: $verb is not known" >&2; exit 2 ;;
    esac
done
