#!/bin/sh
# Compile the hash-locked requirements from pyproject.toml. Usage: tools/lock.sh
#
#   docker/requirements-cpu.lock    native environment and CPU image
#   docker/requirements-dev.lock    the same and the tools of the tests; every common pin is equal
#   docker/requirements-host.lock   a host that starts containers: the command line and the Docker SDK, no torch
#   docker/requirements-loggers.lock  the loggers that are no part of the tools: mlflow and wandb, no torch; a test
#                                   installs them beside the tools, so every common pin is equal
#   docker/requirements-cuda.lock   the package index's full build of torch with its CUDA libraries
#   docker/requirements-fuzz.lock   the fuzzer
#   docker/requirements-sbom.lock   the tool that writes bills of materials
#
# WHEELS names the folder or index page that holds the CPU wheel of torch. No host and no path of this
# machine enters a lock.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-uv}
WHEELS=${WHEELS:-${PIP_FIND_LINKS:-https://download.pytorch.org/whl/cpu/torch/}}
command -v "$UV" >/dev/null || { echo "lock: no '$UV' here: install it (python3 -m pip install uv) or name it with UV=/path/to/uv" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {  # compile OUTPUT ARGUMENT...
    output=$1; shift
    "$UV" pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --output-file "$work/$output" "$@"
}

with_torch_of_all_platforms() {  # with_torch_of_all_platforms LOCK: the lock, its torch block exchanged
    awk 'FNR == NR { if ($0 !~ /^#/) block = block $0 "\n"; next }
         /^[^ #]/ { skip = ($0 ~ /^torch==/); if (skip) printf "%s", block }
         !skip' docker/torch-cpu.txt "$1"
}

publish() {  # publish NAME < lock
    { echo "# Made by 'make lock' from pyproject.toml; do not edit."; cat; } >"$work/published"
    mv "$work/published" "docker/requirements-$1.lock"
    echo "lock: docker/requirements-$1.lock ($(grep -c '^[a-z].*==' "docker/requirements-$1.lock") pins)"
}

version=$(sed -n 's/^\(torch==[^ ;]*\)+cpu .*/\1/p' docker/torch-cpu.txt)
echo "$version+cpu" >"$work/torch-cpu"
echo "$version" >"$work/torch-cuda"
compile cpu --find-links "$WHEELS" --constraint "$work/torch-cpu" --extra training pyproject.toml
with_torch_of_all_platforms "$work/cpu" | publish cpu
compile dev --find-links "$WHEELS" --constraint "$work/cpu" --extra training --extra docker --extra tensorboard --extra dev pyproject.toml
with_torch_of_all_platforms "$work/dev" | publish dev
grep -v '^torch==' "$work/cpu" | grep '^[a-z]' | sed 's/ .*//' >"$work/common"
compile host --constraint "$work/dev" --extra docker pyproject.toml
publish host <"$work/host"
compile loggers --constraint "$work/dev" --extra mlflow --extra wandb pyproject.toml
publish loggers <"$work/loggers"
compile cuda --constraint "$work/torch-cuda" --constraint "$work/common" --extra training pyproject.toml
publish cuda <"$work/cuda"
compile fuzz --group fuzz
publish fuzz <"$work/fuzz"
compile sbom --group sbom
publish sbom <"$work/sbom"
