"""What a container of a run may see and do, as it is asked of the engine; no engine is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.executors.hermetic import CALLER, PACKAGES, PYTHON, Caller, closed, container_name, run_container
from harness.images import EngineError
from harness.labels import RUN_LABEL
from harness.plan import Plan, make_plan
from harness.store import LIFELINE
from tests.harness.conftest import Bench

IMAGE = "sha256:" + "a" * 64
RUN = "/results/small-1"


def plan_of(bench: Bench, *sets: str) -> Plan:
    job = bench.job(*sets)
    return make_plan(
        job.resolved, RUN, python=PYTHON, packages=PACKAGES, caller=CALLER, inputs=job.inputs.values()
    )


def test_a_container_reaches_nothing_but_its_run_and_its_data(bench: Bench) -> None:
    made = run_container(plan_of(bench), IMAGE, Caller(1000, 1001, (44,)), cores=8)
    settings = made["HostConfig"]
    assert made["Image"] == IMAGE
    assert made["User"] == "1000:1001"
    assert made["Labels"][RUN_LABEL] == RUN
    assert settings["NetworkMode"] == "none"
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert settings["SecurityOpt"] == ["no-new-privileges"]
    assert settings["GroupAdd"] == ["44"]
    assert (settings["Init"], settings["AutoRemove"]) == (True, True)
    assert settings["Mounts"] == [
        {"Type": "bind", "Source": RUN, "Target": RUN, "ReadOnly": False},
        {"Type": "bind", "Source": str(bench.data), "Target": str(bench.data), "ReadOnly": True},
    ]
    assert not {"Binds", "Privileged", "CapAdd", "Devices", "PidMode", "VolumesFrom"} & set(settings)


def test_the_command_is_the_plans_in_the_plans_environment_and_no_other(bench: Bench) -> None:
    plan = plan_of(bench)
    made = run_container(plan, IMAGE, Caller(0, 0), cores=1)
    assert made["Entrypoint"] == ["/usr/bin/env", "-i"]
    assert "Env" not in made
    end = made["Cmd"].index("/bin/sh")
    given = dict(word.split("=", 1) for word in made["Cmd"][:end])
    assert given == {**plan.environment, LIFELINE: "1"}
    assert tuple(made["Cmd"][-len(plan.argv) :]) == plan.argv == (PYTHON, "-m", "harness.worker", RUN)
    assert {
        given[name] for name in ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")
    } == {f"/tmp/{name}" for name in ("home", "matplotlib", "cache", "inductor")}
    apart = run_container(plan, IMAGE, Caller(0, 0), cores=1, is_kernel_shared=False)
    assert not [word for word in apart["Cmd"] if LIFELINE in word]


def test_a_gpu_is_asked_for_only_when_the_plan_wants_one(bench: Bench) -> None:
    plan = plan_of(bench)
    cards = [{"Driver": "", "Capabilities": [["gpu"]], "Count": 1}]
    for wants, asked in ((False, []), (True, cards)):
        made = run_container(replace(plan, wants_gpu=wants), IMAGE, Caller(0, 0), cores=1, gpus=cards)
        assert made["HostConfig"]["DeviceRequests"] == asked


def test_limits_have_defaults_that_fit_the_run(bench: Bench) -> None:
    settings = run_container(plan_of(bench), IMAGE, Caller(0, 0), cores=8)["HostConfig"]
    assert settings["Memory"] == settings["MemorySwap"] == 4 * 2**30
    assert settings["ShmSize"] == 2**30
    assert settings["NanoCpus"] == 2_000_000_000
    assert (settings["PidsLimit"], settings["CpusetCpus"]) == (1024, "")
    plan = plan_of(bench, "model.n_filters_scale=16")
    large = run_container(plan, IMAGE, Caller(0, 0), cores=1)["HostConfig"]
    assert large["Memory"] > 4 * 2**30
    assert large["NanoCpus"] == 1_000_000_000


def test_limits_are_what_the_spec_says(bench: Bench) -> None:
    sets = ("memory=512m", "cpus=1.5", "cpuset='0-1,3'", "shm_size=64m", "pids=99")
    plan = plan_of(bench, *(f"container.{one}" for one in sets))
    settings = run_container(plan, IMAGE, Caller(0, 0), cores=8)["HostConfig"]
    assert (settings["Memory"], settings["ShmSize"]) == (512 * 2**20, 64 * 2**20)
    assert (settings["NanoCpus"], settings["CpusetCpus"], settings["PidsLimit"]) == (
        1_500_000_000,
        "0-1,3",
        99,
    )


def test_a_container_that_only_answers_is_limited_too() -> None:
    settings = closed(IMAGE, Caller(0, 0), ["true"])["HostConfig"]
    assert settings["Memory"] == settings["MemorySwap"] == 4 * 2**30
    assert (settings["NanoCpus"], settings["PidsLimit"]) == (1_000_000_000, 512)


def test_the_callers_files_are_the_callers_in_every_kind_of_engine() -> None:
    me = Caller(1000, 1001, (44,))
    assert me.in_engine(["name=seccomp,profile=default", "name=cgroupns"]) == me
    assert me.in_engine(["name=seccomp,profile=default", "name=rootless"]) == Caller(0, 0)
    with pytest.raises(EngineError, match=r"remaps users .* take userns-remap out"):
        me.in_engine(["name=userns"])


@pytest.mark.parametrize("sets", [(), ("container.memory=9g", "container.pids=50")])
def test_no_limit_and_no_image_is_part_of_what_was_decided(bench: Bench, sets: tuple[str, ...]) -> None:
    assert bench.job(*sets).resolved.digest == bench.job().resolved.digest


def test_the_container_of_a_resumed_run_never_has_the_name_of_the_one_before() -> None:
    first, second = container_name(RUN), container_name(RUN)
    assert first.startswith("ptychopinn-small-1-")
    assert first != second
