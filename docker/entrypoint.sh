#!/bin/sh
# What every container of these images starts with: give up root, look whether the image is the checkout's,
# then become the command.
#
# Outputs belong to whom the mounted run folder belongs to: a container that is started as root takes that
# owner's uid and gid (or HARNESS_UID and HARNESS_GID) before Python starts, and keeps no capability.
set -eu
prefix=/opt/ptychopinn
runs=${HARNESS_RUNS:-$prefix/src/runs/_out}
checkout=$prefix/checkout

fail() { printf 'harness: %s\n' "$*" >&2; exit 2; }

if [ "${1:-}" = --as-owner ]; then
    shift
elif [ "$(id -u)" -eq 0 ]; then
    [ -d "$runs" ] || fail "no run folder is mounted at $runs"
    uid=${HARNESS_UID:-$(stat -c %u "$runs")}
    gid=${HARNESS_GID:-$(stat -c %g "$runs")}
    exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs \
        --inh-caps=-all --ambient-caps=-all --bounding-set=-all -- "$0" --as-owner "$@"
fi

if [ -d "$checkout" ]; then
    "$prefix/venv/bin/python" -P "$prefix/src/harness/build_id.py" check "$checkout" || exit 2
fi
exec "$@"
