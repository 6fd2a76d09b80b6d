#!/bin/sh
# Stands in for journalctl in a documentation machine: the log of the unit behind -u.
while [ $# -gt 0 ]; do
    if [ "$1" = -u ]; then
        exec cat "/var/log/journal/${2%.service}"
    fi
    shift
done
