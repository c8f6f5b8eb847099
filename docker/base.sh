#!/bin/sh
# Make the base images where no container registry is reachable, from Debian packages alone: docker/base.sh
#
#   ptychopinn-base:run     Debian bookworm, Python, certificates: what the final images stand on
#   ptychopinn-base:build   the same, the wheel folder and pip's configuration: only build stages see them
#
# and tell compose and `harness image build` of them in .env. Settings, each by default taken from what pip on
# this machine is told:
#   CA_BUNDLE   the site's certificates, PEM         (PIP_CERT, SSL_CERT_FILE)
#   WHEELS      folder with wheels, torch's above all (PIP_FIND_LINKS)
#   PIP_INDEX_URL, PIP_TIMEOUT                        package index, seconds to wait for it
#   DEBIAN_MIRROR                                     (this machine's own sources)
set -eu
cd "$(dirname "$0")/.."
run=ptychopinn-base:run
build=ptychopinn-base:build
ca_bundle=${CA_BUNDLE:-${PIP_CERT:-${SSL_CERT_FILE:-}}}
wheels=${WHEELS:-${PIP_FIND_LINKS:-}}
# One moment for every file, so that the same packages make the same archive.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1700000000}
export SOURCE_DATE_EPOCH

say() { printf 'base image: %s\n' "$*" >&2; }
fail() { printf 'base image: %s\n' "$*" >&2; exit 2; }

missing=
for tool in docker mmdebstrap; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -z "$missing" ] || fail "missing:$missing. On Debian or Ubuntu: apt-get install docker.io mmdebstrap"
docker version >/dev/null 2>&1 || fail "no Docker engine answers: start it, or ask for the right to use its socket"
[ -z "$ca_bundle" ] || [ -f "$ca_bundle" ] || fail "CA_BUNDLE is $ca_bundle, and there is no such file"
[ -d "$wheels" ] || wheels=

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
mkdir "$work/context"

say "1/3 Debian bookworm with Python"
set -- --quiet --variant=minbase --include=python3,python3-venv,ca-certificates
# No log, no cache, no machine id, and byte code without dates: two builds agree.
set -- "$@" --customize-hook='rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/etc/machine-id' \
    --customize-hook='PYTHONHASHSEED=0 chroot "$1" python3 -m compileall -qq -f --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.11'
if [ -n "$ca_bundle" ]; then
    cp "$ca_bundle" "$work/site.pem"
    set -- "$@" --customize-hook="cat '$work/site.pem' >>\"\$1/etc/ssl/certs/ca-certificates.crt\""
fi
mmdebstrap "$@" bookworm "$work/base.tar" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} || fail "mmdebstrap failed; see above"
docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' "$work/base.tar" "$run" >/dev/null

say "2/3 the same with ${wheels:+wheels and }pip's configuration"
mkdir "$work/context/wheels"
[ -z "$wheels" ] || cp "$wheels"/*.whl "$work/context/wheels/" 2>/dev/null || fail "WHEELS is $wheels, and no wheel is in it"
{
    echo '[global]'
    echo 'disable-pip-version-check = true'
    [ -z "$ca_bundle" ] || echo 'cert = /etc/ssl/certs/ca-certificates.crt'
    [ -z "${PIP_INDEX_URL:-}" ] || echo "index-url = $PIP_INDEX_URL"
    echo "timeout = ${PIP_TIMEOUT:-${PIP_DEFAULT_TIMEOUT:-60}}"
} >"$work/context/pip.conf"
cat >"$work/context/Dockerfile" <<DOCKERFILE
FROM $run
COPY pip.conf /etc/pip.conf
COPY wheels /usr/local/share/wheels
DOCKERFILE
docker build --quiet --tag "$build" "$work/context" >/dev/null || fail "docker build failed; see above"

say "3/3 .env: BASE_IMAGE, BUILD_IMAGE, BASE_DIGEST"
touch .env
grep -v -e '^BASE_IMAGE=' -e '^BUILD_IMAGE=' -e '^BASE_DIGEST=' .env >"$work/env" || true
{
    cat "$work/env"
    echo "BASE_IMAGE=$run"
    echo "BUILD_IMAGE=$build"
    echo "BASE_DIGEST=$(docker image inspect --format '{{.Id}}' "$run")"
} >"$work/env.new"
cat "$work/env.new" >.env
say "ready: $(docker image inspect --format '{{.Size}}' "$run" | awk '{printf "%.0f MB", $1 / 1e6}')"
