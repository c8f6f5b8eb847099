#!/bin/sh
# Make the native environment: tools/install.sh VENV LOCK
#
# Everything comes from the lock, checked by hash. The CPU build of torch is installed in a step of its own,
# from the first of these that has it: pip's find-links (or WHEELS=folder), PyTorch's CPU index
# (TORCH_CPU_INDEX), the package index's full build. A lock may also name that full build, or no torch at all.
# The checkout is never written to, so it may be read-only. Images are made by this script too; TOOLS names
# the programs that a user needs beside Python, and in an image there are none.
set -eu
umask 022
venv=$1
lock=$2
root=$(cd "$(dirname "$0")/.." && pwd -P)
full_lock=$root/docker/requirements-cuda.lock
cpu_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}
probe_seconds=30  # a loaded machine needs some for a name, a handshake and a page

say() { printf 'environment: %s\n' "$*" >&2; }
fail() { printf 'environment: %s\n' "$*" >&2; exit 2; }

paths() { printf '%s\n%s\n' "$venv" "$root"; }

is_current() {
    cmp -s "$lock" "$venv/installed.lock" && cmp -s "$0" "$venv/installed.by" \
        && paths | cmp -s - "$venv/installed.paths" && "$venv/bin/python" -c pass 2>/dev/null
}

find_python() {  # sets python and missing
    missing=
    for tool in ${TOOLS-git make}; do
        command -v "$tool" >/dev/null || missing="$missing $tool"
    done
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
        return
    done
    missing="$missing python3 (3.11 or newer) python3-venv"
}

split_lock() {  # torch.txt: torch alone; rest.txt: everything else; full.txt: what the full build adds
    awk -v torch="$work/torch.txt" -v rest="$work/rest.txt" '
        /^[^ #]/ { out = /^torch==/ ? torch : rest }
        out { print > out }' "$lock"
    [ ! -f "$full_lock" ] || awk -v full="$work/full.txt" '
        /^[^ ]/ { name = $1; sub(/==.*/, "", name) }
        FNR == NR { if (name != "torch") known[name] = 1; next }
        !(name in known) && !/^#/ { print > full }' "$lock" "$full_lock"
}

pip_install() {
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --no-compile --no-deps \
        --only-binary=:all: --root-user-action=ignore --require-hashes "$@"
}

torch_from_wheel_folder() {
    pip_install --no-index ${WHEELS:+--find-links "$WHEELS"} --retries 0 --timeout "$probe_seconds" \
        --requirement "$work/torch.txt" 2>"$work/log" && return
    grep -q 'No matching distribution' "$work/log" || { cat "$work/log" >&2; fail "torch could not be installed from the wheel folder"; }
    return 1
}

answers() {  # answers URL: is there a page within the time
    "$venv/bin/python" - "$1" "$probe_seconds" <<'PYTHON' 2>/dev/null
import os, signal, sys, urllib.request
signal.alarm(int(sys.argv[2]))
if "PIP_CERT" in os.environ:
    os.environ.setdefault("SSL_CERT_FILE", os.environ["PIP_CERT"])
urllib.request.urlopen(sys.argv[1], timeout=int(sys.argv[2])).close()
PYTHON
}

install_torch() {
    if [ ! -s "$work/torch.txt" ]; then
        say "2/4 no torch: $(basename "$lock") names none"
    elif ! grep -q '^torch==[^ ]*+cpu' "$work/torch.txt"; then
        say "2/4 torch: the full build from the package index, with its CUDA libraries: about 2.5 GB, 5 GB on the disk"
        pip_install --requirement "$work/torch.txt"
    elif torch_from_wheel_folder; then
        say "2/4 torch: the CPU build, from the wheel folder"
    elif answers "${cpu_index%/}/torch/"; then
        say "2/4 torch: the CPU build from PyTorch's index (190 MB)"
        pip_install --index-url "$cpu_index" --requirement "$work/torch.txt"
    elif [ ! -f "$full_lock" ]; then
        fail "torch: no wheel folder has the CPU build, and $cpu_index did not answer within $probe_seconds s: name a folder with WHEELS or another index with TORCH_CPU_INDEX"
    else
        say "2/4 torch: no wheel folder has the CPU build and $cpu_index did not answer within $probe_seconds s," \
            "so the package index's full build is taken: about 2.5 GB with its CUDA libraries, 5 GB on the disk"
        pip_install --requirement "$work/full.txt"
    fi
}

link_checkout() {  # the checkout's packages and the console script, without a build and without writing to it
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$root" >"$site/ptychopinn-harness.pth"
    cat >"$venv/bin/harness" <<SCRIPT
#!/bin/sh
'''exec' "$venv/bin/python" "\$0" "\$@"
' '''
import sys

from harness.cli import main

sys.exit(main())
SCRIPT
    chmod +x "$venv/bin/harness"
}

compile_byte_code() {  # the same bytes on every machine, whatever PYTHONDONTWRITEBYTECODE says
    # Two processes of our own, because compileall's need a /dev/shm that may not be there. The status says
    # only that some package holds a file in a newer Python's syntax, which nobody imports.
    large='/(torch|sympy|networkx)/'
    if [ -d "$site/torch" ]; then
        compile_byte_code_of '/tests/' "$site"/torch "$site"/sympy "$site"/networkx &
    fi
    compile_byte_code_of "/tests/|$large" "$site" || true
    wait || true
    [ -n "$(find "$site" -path "$site/pip*" -prune -o -name '*.pyc' -print | head -n 1)" ] \
        || fail "the byte code could not be written below $site"
}

compile_byte_code_of() {  # compile_byte_code_of PATTERN-TO-LEAVE-OUT FOLDER...
    pattern=$1; shift
    PYTHONHASHSEED=0 "$venv/bin/python" -m compileall -qq -f --invalidation-mode unchecked-hash -s "$site" -x "$pattern" "$@"
}

[ -f "$lock" ] || fail "there is no lock $lock"
mkdir -p "$(dirname "$venv")" || fail "cannot write $(dirname "$venv"): name another place with VENV=..."
venv=$(cd "$(dirname "$venv")" && pwd -P)/$(basename "$venv")
is_current && exit 0
if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
    fail "$venv exists and is no Python environment: name another place with VENV=..."
fi
find_python
[ -z "$missing" ] || fail "missing:$missing. On Debian or Ubuntu: apt-get install git make python3 python3-venv"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
split_lock
say "1/4 a Python environment in $venv"
rm -rf "$venv"
"$python" -m venv "$venv" || fail "$python -m venv failed; see above"
install_torch
say "3/4 $(grep -c '^[^ #]' "$work/rest.txt") other packages, from $(basename "$lock")"
pip_install --requirement "$work/rest.txt"
link_checkout
say "4/4 byte code"
compile_byte_code
install -m 644 "$0" "$venv/installed.by"
paths >"$venv/installed.paths"
install -m 644 "$lock" "$venv/installed.lock"
say "ready"
