"""From a resolved run to what will be started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.plan import estimate, make_plan, worker_environment
from harness.resolve import resolve
from harness.spec import read_spec
from ptycho_torch.profiles import environment as profile_environment
from tests.harness.conftest import Bench, write_scan

CALLER = {
    "PATH": "/bin",
    "HOME": "/mine",
    "LANG": "de_DE.UTF-8",
    "LC_NUMERIC": "de_DE.UTF-8",
    "TZ": "Asia/Tokyo",
    "PYTHONHASHSEED": "9",
    "PYTHONPATH": "/mine",
    "MKL_CBWR": "AVX2",
    "OMP_NUM_THREADS": "8",
    "LD_PRELOAD": "/mine.so",
}


@pytest.mark.parametrize(
    ("profile", "tunables"),
    [
        ("strict", "glibc.malloc.hugetlb=1"),
        ("portable", "glibc.malloc.hugetlb=1"),
        ("portable-sse", "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4:glibc.malloc.hugetlb=1"),
    ],
)
def test_the_worker_gets_the_profile_and_nothing_of_the_caller_that_could_change_a_result(
    profile: str, tunables: str
) -> None:
    settled = worker_environment(profile, 1, CALLER, "/packages")
    assert settled == {
        "PATH": "/bin",
        "HOME": "/mine",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": "/packages",
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "2147483647",
        **profile_environment(profile, 1),
        "GLIBC_TUNABLES": tunables,
    }


@pytest.mark.parametrize("profile", ["strict", "portable", "portable-sse"])
def test_several_threads_get_no_huge_pages(profile: str) -> None:
    told = worker_environment(profile, 2, CALLER, None).get("GLIBC_TUNABLES")
    assert told == profile_environment(profile, 2).get("GLIBC_TUNABLES")


def test_installed_packages_need_no_path() -> None:
    assert "PYTHONPATH" not in worker_environment("strict", 1, CALLER, None)


def test_every_executor_starts_the_same_command(bench: Bench) -> None:
    plan = make_plan(bench.job().resolved, "/runs/x", python="/py", packages=None, caller=CALLER)
    assert plan.argv == ("/py", "-m", "harness.worker", "/runs/x")


@pytest.mark.parametrize(
    ("asked", "accelerators", "wants"),
    [
        ("cpu", ("cpu", "cuda"), False),
        ("cuda", ("cpu", "cuda"), True),
        ("gpu", ("cpu", "cuda"), True),
        ("auto", ("cpu", "cuda"), True),
        ("auto", ("cpu",), False),
    ],
)
@pytest.mark.parametrize("image", ["cpu", "cuda"])
def test_a_gpu_is_wanted_by_the_resolved_accelerator_and_not_by_the_image(
    bench: Bench, asked: str, accelerators: tuple[str, ...], wants: bool, image: str
) -> None:
    place = replace(bench.executor().inventory(), accelerators=accelerators, is_in_image=True)
    spec = read_spec(bench.spec, (f"execution.accelerator={asked}", f"container.image={image}"))
    resolved = resolve(spec, place).run
    assert (
        make_plan(resolved, "/runs/x", python="/py", packages=None, caller=CALLER).wants_gpu,
        resolved.payload.execution_config.accelerator,
    ) == (wants, "cuda" if wants else "cpu")


@pytest.mark.parametrize(
    "more", ["training.epochs=4", "model.n_filters_scale=4", "training.batch_size=16", "model.gridsize=2"]
)
def test_more_work_is_estimated_to_cost_more(bench: Bench, more: str) -> None:
    little, much = (estimate(bench.job(*sets).resolved) for sets in ((), (more,)))
    assert (much.cpu_seconds, much.memory_gb) > (little.cpu_seconds, little.memory_gb)
    assert much.cpu_seconds >= little.cpu_seconds
    assert much.memory_gb >= little.memory_gb


@pytest.mark.parametrize(
    ("sets", "threads", "faster"),
    [
        (("batch_size=16",), 2, 2),  # two portions of eight patterns
        (("batch_size=8",), 2, 1),  # one
        (("batch_size=4",), 9, 1),
        (("batch_size=24",), 2, 1.5),  # three, of which one is alone in the end
        (("batch_size=24",), 9, 3),
        (("batch_size=8", "gridsize=2"), 4, 4),  # four, of two groups each
        (("batch_size=16", "inference_batch_size=8"), 2, 2),
    ],
)
def test_threads_shorten_the_wait_as_far_as_there_are_portions_for_them_and_not_the_work(
    bench: Bench, sets: tuple[str, ...], threads: int, faster: float
) -> None:
    def training(n: int) -> tuple[float, float]:
        more = (*sets, f"exactness.threads={n}", "products.reconstruction=false")
        short, long = (estimate(bench.job(*more, f"epochs={epochs}").resolved) for epochs in (1, 501))
        return long.cpu_seconds - short.cpu_seconds, long.wall_seconds - short.wall_seconds

    (work, wait), (same_work, shorter) = training(1), training(threads)
    assert work == wait == pytest.approx(same_work)
    assert wait / shorter == pytest.approx(faster)


@pytest.mark.parametrize(
    ("sets", "faster"),
    [
        (("inference_batch_size=16",), 2),
        (("inference_batch_size=8", "batch_size=16"), 1),
        (("inference_batch_size=8", "gridsize=2"), 1),  # by single frames, not by groups
        (("inference_batch_size=8", "gridsize=2", "object_big=false"), 2),
        (("batch_size=16",), 2),
    ],
)
def test_threads_shorten_the_wait_for_the_image_by_the_portions_that_are_predicted(
    bench: Bench, sets: tuple[str, ...], faster: float
) -> None:
    def stitching(n: int) -> float:
        more = (*sets, f"exactness.threads={n}")
        made, none = (
            estimate(bench.job(*more, f"products.reconstruction={wanted}").resolved).wall_seconds
            for wanted in ("true", "false")
        )
        return made - none

    assert stitching(1) / stitching(2) == pytest.approx(faster)


def test_every_thread_holds_a_portion_of_the_batch(bench: Bench) -> None:
    one, two, three, many = (
        estimate(bench.job(f"exactness.threads={n}", "training.batch_size=20").resolved) for n in (1, 2, 3, 9)
    )
    assert one.memory_gb < two.memory_gb < three.memory_gb
    assert three.memory_gb == many.memory_gb, "there are no more than three portions of eight"


def test_the_quickstart_of_the_literature_is_estimated_within_a_factor_of_two(bench: Bench) -> None:
    # 547 patterns of 64 pixels, one filter scale, 15 epochs: measured at 125 CPU-seconds.
    write_scan(bench.data, 547)
    sets = ("n_filters_scale=1", "epochs=15", "n_groups=547", "validation_fraction=0")
    assert 60 < estimate(bench.job(*sets).resolved).cpu_seconds < 250


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("object_big", ["true", "false"])
def test_stitching_is_estimated_by_the_scans_frames_and_not_by_the_groups_trained_on(
    bench: Bench, gridsize: int, object_big: str
) -> None:
    sets = (f"model.gridsize={gridsize}", f"model.object_big={object_big}")

    def stitching(*more: str) -> float:
        with_image, without = (
            estimate(bench.job(*sets, *more, f"products.reconstruction={wanted}").resolved).cpu_seconds
            for wanted in ("true", "false")
        )
        return with_image - without

    few = stitching()
    assert stitching("training.n_groups=15") == pytest.approx(few)
    write_scan(bench.data, 60)
    assert stitching() == pytest.approx(3 * few)
