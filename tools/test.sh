#!/bin/sh
# The tests: tools/test.sh PYTHON CACHE all|slow|container|proof [ARGUMENT...]
#
#   all        the tests, then those of the science again with the shape checker on
#   slow       those that take longer
#   container  those that build and run containers
#   proof      those that attack a promise at every point there is
#
# CACHE is a folder for what tests keep between runs, because the checkout may be read-only; JOBS limits the
# processes. Tests share the cores, so each process computes on one.
set -eu
python=$1
cache=$2
which=$3
shift 3
checked=ptycho_torch.physics,ptycho_torch.models,ptycho_torch.losses
export OMP_NUM_THREADS=1 HYPOTHESIS_STORAGE_DIRECTORY="$cache/.hypothesis"

run_tests() {
    "$python" -m pytest -o cache_dir="$cache/.pytest_cache" "$@"
}

jobs=${JOBS:-auto}
spread="-n $jobs --maxprocesses 8 --dist"
case $which in
all)
    run_tests $spread loadfile "$@"
    # Drawing and processes that are started anew have no shapes to check; two tests compute in float64.
    run_tests $spread loadfile -p tests.shape_checker --jaxtyping-packages="$checked,tests.shape_checker.check" \
        --deselect tests/torch/test_module.py::test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole \
        --deselect tests/torch/test_model_options.py::test_total_variation_is_added_to_the_loss_and_its_parts_add_up \
        --ignore=tests/torch/test_plotting.py --ignore=tests/torch/exact/test_profile.py tests/torch
    ;;
slow) run_tests $spread loadfile -m slow "$@" ;;
container) run_tests $spread loadfile -m container "$@" ;;
proof)
    # Deaths, disks and starts are waited for, so one process more than there are cores.
    [ "$jobs" != auto ] || jobs=$(($(getconf _NPROCESSORS_ONLN) + 1))
    run_tests -n "$jobs" --dist worksteal -p tests.proof.tiny_line -m proof tests/proof "$@"
    ;;
*) echo "test.sh: all, slow, container or proof, not '$which'" >&2; exit 2 ;;
esac
