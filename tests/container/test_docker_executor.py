"""The Docker executor and a real engine: the same bits as outside, in a container that reaches nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from harness.build_id import build_id
from harness.environment import gpus
from harness.executors.docker import DockerExecutor
from harness.images import connect
from harness.store import LIFELINE, file_digest
from tests.container.bait import Bait
from tests.container.compose_kit import NEEDS_GPU, NEEDS_NO_GPU, PASSING_LABEL, golden_digests
from tests.container.docker_kit import (
    DURABLE,
    ROOT,
    as_user,
    containers_of,
    folder_of,
    harness,
    host,
    interpreter_for,
    manifest,
    relabelled,
    run_folder,
    surroundings,
    until_it_trains,
)
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("cpu_image")]
BASE_NAME = "org.opencontainers.image.base.name"
CI_SPEC = ROOT / "runs" / "ci.yaml"
CANARY = (Path(__file__).with_name("canary.py")).read_text()


def test_native_and_container_on_all_cores_and_on_one_give_one_digest_and_each_verifies_the_other() -> None:
    with folder_of(0) as folder:
        cores = int(connect().info()["NCPU"])
        all_of_them = ("--set", f"container.cpus={cores}")
        assert harness(folder, "run", str(CI_SPEC), "--executor", "local", *all_of_them).returncode == 0
        native = run_folder(folder)
        done = harness(folder, "verify", native.name, "--executor", "docker", "--regardless")
        assert done.returncode == 0, done.stderr
        # The tests' own environment holds their tools as well, so the packages may differ beside the image.
        assert done.stdout.startswith("bitwise, although environment.image")
        everywhere = run_folder(folder)
        pinned = harness(folder, "run", str(CI_SPEC), "--executor", "docker", "--set", "container.cpuset='0'")
        assert pinned.returncode == 0, pinned.stderr
        on_one = run_folder(folder)
        records = [manifest(run) for run in (native, everywhere, on_one)]
        # The golden's, which compose is held to as well: one digest, four times.
        assert {record["compared"]["final_tensor_digest"] for record in records} == golden_digests()
        assert records[1]["resolved"]["container.cpus"]["value"] == cores
        assert records[2]["resolved"]["container.cpuset"]["value"] == "0"
        assert len({record["compared"]["inputs"] for record in records}) == 1
        assert [record["resolved"]["container.image"]["value"] for record in records] == [
            "none",
            DockerExecutor().image_id(),
            DockerExecutor().image_id(),
        ]
        back = harness(folder, "verify", on_one.name, "--executor", "local", "--regardless")
        assert back.returncode == 0, back.stderr
        assert back.stdout.startswith("bitwise, although environment.image")


def test_a_run_begun_outside_any_known_image_goes_on_in_a_container_to_the_bits_of_an_unbroken_one() -> None:
    sets = ("training.epochs=60", *DURABLE)
    with folder_of(0) as folder:
        with host(folder, *sets, executor="local") as (process, run):
            until_it_trains(process, run, "resume-*.ckpt")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        # The tests' own environment holds their tools as well as the image's packages.
        done = harness(folder, "resume", run.name, "--executor", "docker", "--regardless")
        broken = manifest(run)
        assert broken["status"] in {"completed", "collapsed"}, done.stderr
        assert broken["environment"]["image"]["id"] == DockerExecutor().image_id()
        words = [word for one in sets for word in ("--set", one)]
        harness(folder, "run", "spec.yaml", "--executor", "docker", *words)
        whole = manifest(run_folder(folder))
        assert whole["attempts"][0]["from_step"] == 0 < broken["attempts"][-1]["from_step"]
        assert whole["compared"] == broken["compared"]


def test_a_run_made_in_a_container_is_repeated_in_the_image_it_was_made_in() -> None:
    with folder_of(0) as folder:
        harness(folder, "run", "spec.yaml", "--executor", "docker")
        first = run_folder(folder)
        identity = manifest(first)["environment"]["image"]
        assert identity["id"] == DockerExecutor().image_id()
        assert identity["layers"]
        assert identity["platform"].startswith("linux/")
        assert identity["build_id"] == manifest(first)["environment"]["build_id"]
        done = harness(folder, "verify", first.name)
        assert done.stdout.startswith("bitwise\n"), done.stdout + done.stderr
        assert manifest(run_folder(folder))["environment"]["image"] == identity


def test_a_run_in_a_container_starts_from_the_weights_of_another_and_is_repeated_there() -> None:
    with folder_of(0) as folder:
        harness(folder, "run", "spec.yaml", "--executor", "docker")
        before = run_folder(folder)
        words = ("--set", f"init_from={before}", "--executor", "docker")
        done = harness(folder, "run", "spec.yaml", *words)
        after = run_folder(folder)
        assert after != before, done.stderr
        digests = {one["role"]: one["sha256"] for one in manifest(after)["data"]}
        assert digests["init_from"] == file_digest(before / "checkpoints" / "last.ckpt")
        names = ("final_tensor_digest", "inputs")
        assert all(manifest(after)["compared"][name] != manifest(before)["compared"][name] for name in names)
        done = harness(folder, "verify", after.name)
        assert done.stdout.startswith("bitwise\n"), done.stdout + done.stderr


def test_a_run_whose_image_is_gone_says_so_and_how_to_get_it_back() -> None:
    client = connect()
    with folder_of(0) as folder:
        parent = DockerExecutor().image_id()
        made = client.api.create_container_from_config({"Image": parent, "Labels": {"a": str(folder)}})
        image = client.api.commit(made["Id"], changes=f'LABEL {PASSING_LABEL}="{folder.name}"')["Id"]
        client.api.remove_container(made["Id"])
        try:
            asked = harness(
                folder, "run", "spec.yaml", "--executor", "docker", "--set", f"container.image='{image}'"
            )
            assert asked.returncode in {0, 1}, asked.stderr
        finally:
            client.api.remove_image(image, force=True)
        run = run_folder(folder)
        assert manifest(run)["environment"]["image"]["id"] == image
        before = list((folder / "runs").iterdir())
        for verb in ("rerun", "verify"):
            refused = harness(folder, verb, run.name)
            assert refused.returncode == 2
            assert f"{image}, is gone from the engine" in refused.stderr
            assert f"check out commit {manifest(run)['code']['commit'][:12]}" in refused.stderr
            assert "harness image build --target cpu" in refused.stderr
            assert (
                f"BASE_IMAGE={manifest(run)['environment']['image']['recipe'][BASE_NAME]}" in refused.stderr
            )
        assert list((folder / "runs").iterdir()) == before
        rebuilt = harness(folder, "verify", run.name, "--image", "cpu")
        assert rebuilt.stdout.startswith("bitwise"), rebuilt.stdout + rebuilt.stderr
        assert manifest(run_folder(folder))["environment"]["image"]["id"] == parent


def test_an_image_of_other_sources_and_one_of_none_are_refused_before_anything_is_written() -> None:
    client = connect()
    parent = DockerExecutor().image_id()
    for label, sentence in (
        ("ptychopinn.build-id=0000", "was not built from this checkout as it stands"),
        ("ptychopinn.target= ptychopinn.build-id=", "is not one of this project's"),
    ):
        made = client.api.create_container_from_config({"Image": parent})
        image = client.api.commit(made["Id"], changes=f"LABEL {PASSING_LABEL}=1 {label}")["Id"]
        client.api.remove_container(made["Id"])
        try:
            with folder_of(0) as folder:
                choice = f"container.image='{image}'"
                refused = harness(folder, "run", "spec.yaml", "--executor", "docker", "--set", choice)
                assert refused.returncode == 2
                assert sentence in refused.stderr
                assert "harness image build" in refused.stderr
                assert not (folder / "runs").exists()
        finally:
            client.api.remove_image(image, force=True)


def test_a_gpu_that_the_image_cannot_drive_is_refused_with_the_cure() -> None:
    with folder_of(0) as folder:
        image = f"container.image='{DockerExecutor().image_id()}'"
        asked = ("--executor", "docker", "--device", "cuda", "--set", image)
        refused = harness(folder, "run", "spec.yaml", *asked)
        assert refused.returncode == 2
        assert "set container.image to cuda" in refused.stderr
        assert not (folder / "runs").exists()


@pytest.mark.skipif(bool(gpus()), reason=f"{NEEDS_NO_GPU}, and there is one")
def test_a_gpu_that_is_absent_is_refused_with_the_cure_before_anything_is_written() -> None:
    labels = ("ptychopinn.target=cuda", f"ptychopinn.build-id={build_id(ROOT, 'cuda')}")
    with relabelled(*labels) as image, folder_of(0) as folder:
        asked = ("--executor", "docker", "--device", "cuda", "--set", f"container.image='{image}'")
        refused = harness(folder, "run", "spec.yaml", *asked)
        assert refused.returncode == 2
        sentence, *under_it = refused.stderr.splitlines()
        assert "install the driver and the NVIDIA Container Toolkit on this machine" in sentence
        assert under_it == ["    cuda", "    ^"]
        assert not (folder / "runs").exists()


@pytest.mark.skipif(not gpus(), reason=f"{NEEDS_GPU}, and there is none")
@pytest.mark.parametrize("gridsize", [1, 2])
def test_a_gpu_gives_one_digest_twice(gridsize: int) -> None:
    build = [sys.executable, "-m", "harness", "image", "build", "--target", "cuda"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with folder_of(0) as folder:
        asked = ("--executor", "docker", "--device", "cuda", "--set", f"model.gridsize={gridsize}")
        done = harness(folder, "run", str(CI_SPEC), *asked)
        assert done.returncode in {0, 1}, done.stderr  # what so few groups of four come to may be collapsed
        again = harness(folder, "verify", run_folder(folder).name)
        assert again.stdout.startswith("bitwise\n"), again.stdout + again.stderr


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_container_with_a_hole_in_its_walls_is_found_out(cpu_image: str, bait: Bait, network: str) -> None:
    address = bait.gateway if network == "bridge" else "127.0.0.1"
    attempts = ["inside.txt", [[address, bait.port]], [str(bait.secret)], ["/canary.txt"]]
    holes = ["--network", network, "--user", "0:0"]
    holes += ["--volume", f"{bait.secret.parent}:{bait.secret.parent}:ro"]
    holes += ["--volume", "/var/run/docker.sock:/var/run/docker.sock", "--entrypoint", "python"]
    command = ["docker", "run", "--rm", *holes, cpu_image, "-c", CANARY, json.dumps(attempts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    managed = json.loads(done.stdout)["managed"]
    assert all(managed.values()), managed
    assert len(managed) == 3 + 2 + 2


@pytest.mark.parametrize("uid", [0, 1000])
def test_nothing_beyond_the_run_is_within_reach(uid: int, bait: Bait) -> None:
    with folder_of(uid) as folder:
        secret, declared = folder / "secret.txt", folder / "declared.txt"
        secret.write_text("undeclared")
        declared.write_text("declared")
        runs = folder / "runs"
        attempts = [
            "inside.txt",
            [["127.0.0.1", bait.port], [bait.gateway, bait.port]],
            [str(secret), str(folder / "spec.yaml"), str(bait.secret)],
            [str(folder / "outside.txt"), str(declared), "/canary.txt", "/opt/ptychopinn/canary.txt"],
        ]
        command = ["-c", CANARY, json.dumps(attempts)]
        done = subprocess.run(
            [interpreter_for(uid)[0], "-m", "tests.container.carry_out", str(runs), str(declared), *command],
            cwd=folder,
            env=surroundings(folder, CANARY="of the host"),
            capture_output=True,
            text=True,
            check=False,
            **as_user(uid),
        )
        run = run_folder(folder)
        log = (run / "logs" / "worker.log").read_text()
        assert done.returncode == 0, log + done.stderr
        found = json.loads(log)
        assert {name for name, value in found["managed"].items() if value and name != "errors"} == set()
        assert len(found["managed"]) - 1 == 2 + 3 + 4 + 2 + 2
        assert found["user"] == [uid, uid]
        assert found["capabilities"] == ["0000000000000000"] * 3
        assert found["no_new_privileges"] == "1"
        assert found["interfaces"] == ["lo"]
        of_the_shell = {"PWD", "SHLVL", "OLDPWD", "_"}
        seen = {name: value for name, value in found["environment"].items() if name not in of_the_shell}
        assert seen == {**json.loads(done.stdout), LIFELINE: "1"}
        assert "CANARY" not in found["environment_of_the_first"]
        assert declared.read_text() == "declared"
        assert not (folder / "outside.txt").exists()
        assert (run / "inside.txt").stat().st_uid == uid
        assert containers_of(connect(), run) == []


@pytest.mark.parametrize("uid", [0, 1000])
def test_everything_a_run_leaves_belongs_to_the_caller(uid: int) -> None:
    with folder_of(uid) as folder:
        done = harness(folder, "run", "spec.yaml", "--executor", "docker", uid=uid)
        assert done.returncode in {0, 1}, done.stderr
        files = [folder / "runs", *(folder / "runs").rglob("*")]
        assert len(files) > 15
        assert {(path.stat().st_uid, path.stat().st_gid) for path in files} == {(uid, uid)}


def test_a_host_without_torch_starts_runs_and_repeats_them() -> None:
    lock = ROOT / "docker" / "requirements-host.lock"
    with folder_of(0) as folder:
        venv.create(folder / "venv", with_pip=True)
        python = str(folder / "venv" / "bin" / "python")
        install = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--require-hashes",
            "--only-binary=:all:",
            "-r",
            lock,
        ]
        subprocess.run(install, check=True)
        has_torch = [python, "-c", "import torch"]
        assert subprocess.run(has_torch, capture_output=True, check=False).returncode != 0
        done = harness(folder, "run", "spec.yaml", "--executor", "docker", python=python)
        assert done.returncode in {0, 1}, done.stderr
        run = run_folder(folder)
        assert manifest(run)["environment"]["packages"]["torch"]["version"].startswith("2.")
        again = harness(folder, "verify", run.name, python=python)
        assert again.stdout.startswith("bitwise\n"), again.stdout + again.stderr
