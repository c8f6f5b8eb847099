#!/bin/sh
# Make the base images where no container registry is reachable, from Debian packages alone:
#
#   docker/base.sh            make them, and tell compose and `harness image build` of them in .env
#   docker/base.sh --current  status 0 if those that .env names are here and were made by this script as it stands
#
#   ptychopinn-base:run     Debian bookworm, Python, certificates: what the final images stand on
#   ptychopinn-base:build   the same, the wheel folder and pip's configuration: only build stages see them
#
# A tag moves, so .env names them by their content: run- and build- with the first twelve digits of the image's id.
# Settings, from the environment:
#   CA_BUNDLE      the site's certificates, PEM; else PIP_CERT, else SSL_CERT_FILE, else none are added
#   WHEELS         folder with wheels, torch's above all; else PIP_FIND_LINKS where that is a folder
#   PIP_INDEX_URL  package index; else what `pip config` says on this machine, else pip's own
#   PIP_TIMEOUT    seconds to wait for it; else PIP_DEFAULT_TIMEOUT, else 60
#   DEBIAN_MIRROR  address of a mirror; else mmdebstrap's own choice, deb.debian.org with updates and security
set -eu
cd "$(dirname "$0")/.."
repository=ptychopinn-base
recipe_label=ptychopinn.base-recipe
recipe=$(sha256sum docker/base.sh | cut -d ' ' -f 1)
ca_bundle=${CA_BUNDLE:-${PIP_CERT:-${SSL_CERT_FILE:-}}}
# One moment for every file, so that the same packages make the same archive.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1700000000}
export SOURCE_DATE_EPOCH

say() { printf 'base image: %s\n' "$*" >&2; }
fail() { printf 'base image: %s\n' "$*" >&2; exit 2; }

is_current() {
    for name in BASE_IMAGE BUILD_IMAGE; do
        image=$(sed -n "s/^$name=//p" .env 2>/dev/null)
        [ -n "$image" ] || return 1
        made_by=$(docker image inspect --format "{{index .Config.Labels \"$recipe_label\"}}" "$image" 2>/dev/null) || return 1
        [ "$made_by" = "$recipe" ] || return 1
    done
}

name_by_content() {  # name_by_content STAGE: give the image a name that never moves, and print it
    image=$repository:$1-$(docker image inspect --format '{{.Id}}' "$repository:$1" | cut -c 8-19)
    docker tag "$repository:$1" "$image"
    echo "$image"
}

case ${1:-} in
'') ;;
--current) is_current && exit 0 || exit 1 ;;
*) fail "$1 is no option: write --current or nothing" ;;
esac

missing=
for tool in docker mmdebstrap; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
ls /usr/share/keyrings/debian-archive-keyring.* >/dev/null 2>&1 || missing="$missing debian-archive-keyring"
[ -z "$missing" ] || fail "missing:$missing. On Debian or Ubuntu: apt-get install docker.io mmdebstrap debian-archive-keyring"
docker version >/dev/null 2>&1 || fail "no Docker engine answers: start it, or ask for the right to use its socket"
[ -z "$ca_bundle" ] || [ -f "$ca_bundle" ] || fail "CA_BUNDLE is $ca_bundle, and there is no such file"
wheels=${WHEELS:-}
if [ -n "$wheels" ]; then
    [ -d "$wheels" ] || fail "WHEELS is $wheels, and there is no such folder"
elif [ -d "${PIP_FIND_LINKS:-}" ]; then
    wheels=$PIP_FIND_LINKS
fi
if [ -n "$wheels" ]; then
    ls "$wheels"/*.whl >/dev/null 2>&1 || fail "the wheel folder is $wheels, and no wheel is in it"
fi
index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
if [ -e .env ] && [ ! -w .env ]; then
    fail "$PWD/.env, which tells of the images, cannot be written: make it yours"
fi
settings=$(mktemp .env.XXXXXX 2>/dev/null) || fail "$PWD, whose .env tells of the images, cannot be written: make the checkout yours"

work=$(mktemp -d)
trap 'rm -rf "$work" "$settings"' EXIT
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
docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' --change "LABEL $recipe_label=$recipe" \
    "$work/base.tar" "$repository:run" >/dev/null
run=$(name_by_content run)

say "2/3 the same with ${wheels:+wheels and }pip's configuration"
mkdir "$work/context/wheels"
[ -z "$wheels" ] || cp "$wheels"/*.whl "$work/context/wheels/"
{
    echo '[global]'
    echo 'disable-pip-version-check = true'
    [ -z "$ca_bundle" ] || echo 'cert = /etc/ssl/certs/ca-certificates.crt'
    [ -z "$index" ] || echo "index-url = $index"
    echo "timeout = ${PIP_TIMEOUT:-${PIP_DEFAULT_TIMEOUT:-60}}"
} >"$work/context/pip.conf"
cat >"$work/context/Dockerfile" <<DOCKERFILE
FROM $run
COPY pip.conf /etc/pip.conf
COPY wheels /usr/local/share/wheels
DOCKERFILE
docker build --quiet --tag "$repository:build" "$work/context" >/dev/null || fail "docker build failed; see above"
build=$(name_by_content build)

say "3/3 .env: BASE_IMAGE, BUILD_IMAGE, BASE_DIGEST"
if [ -e .env ]; then
    cp -p .env "$settings"  # its rights; what was set beside these three stays
    grep -v -e '^BASE_IMAGE=' -e '^BUILD_IMAGE=' -e '^BASE_DIGEST=' .env >"$settings" || true
else
    chmod 644 "$settings"
fi
{
    echo "BASE_IMAGE=$run"
    echo "BUILD_IMAGE=$build"
    echo "BASE_DIGEST=$(docker image inspect --format '{{.Id}}' "$run")"
} >>"$settings"
mv "$settings" .env
say "ready: $(docker image inspect --format '{{.Size}}' "$run" | awk '{printf "%.0f MB", $1 / 1e6}')"
