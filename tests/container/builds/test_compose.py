"""`docker-compose run` as a user types it, on a real engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.build_id import build_id
from tests.container.bait import Bait
from tests.container.compose_kit import (
    ROOT,
    Checkout,
    compose_command,
    golden_digests,
    manifest_of,
    need_engine,
)
from tests.waiting import until

pytestmark = pytest.mark.container

SPEC = "runs/ci.yaml"
OWNERS = (0, 1000)
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a run folder to somebody else")


@pytest.fixture(scope="module")
def checkout(checkout: Checkout) -> Checkout:
    built = checkout.compose("build", "train")
    assert built.returncode == 0, built.stdout + built.stderr
    return checkout


@pytest.fixture(params=OWNERS, ids=lambda uid: f"uid {uid}")
def owned(request: pytest.FixtureRequest, checkout: Checkout) -> Checkout:
    """Return the checkout with a run folder that belongs to one of the owners."""
    if os.getuid() != 0:
        pytest.skip("only root can give a run folder to somebody else")
    os.chown(checkout.runs, request.param, request.param)
    return checkout


def test_compose_takes_the_file_with_and_without_the_graphics_cards() -> None:
    need_engine()
    for profile in ([], ["--profile", "cuda"]):
        command = [*compose_command(), *profile, "config", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def verdict_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs are compared by; the tests' environment holds more packages than the image's."""
    return {key: value for key, value in manifest["compared"].items() if key != "environment.packages_digest"}


def first_words(screen: str) -> list[str]:
    return [line.split()[0] for line in screen.splitlines() if line[:1].isalpha()]


@only_root
def test_a_compose_run_and_its_repetition_have_the_bits_of_a_native_run_and_the_owner_of_the_run_folder(
    checkout: Checkout, tmp_path: Path
) -> None:
    native = checkout.harness("run", SPEC, "--runs-dir", str(tmp_path))
    assert native.returncode == 0, native.stderr
    expected = manifest_of(tmp_path)
    assert expected["environment"]["build_id"] is None
    for uid in OWNERS:
        os.chown(checkout.runs, uid, uid)
        before = runs_of(checkout)
        done = checkout.compose("run", "--rm", "-T", "train", SPEC=SPEC)
        assert done.returncode == 0, done.stdout + done.stderr
        (run,) = runs_of(checkout) - before
        assert owners_in(run) == {(uid, uid)}
        assert first_words(done.stdout)[-len(first_words(native.stdout)) :] == first_words(native.stdout)
        assert "training" in first_words(
            done.stderr.replace(":", " ")
        )  # with its epoch, where a look saw one
        found = manifest_of(checkout.runs, run.name)
        assert found["environment"]["build_id"] == build_id(checkout.path, "cpu")
        assert verdict_facts(found) == verdict_facts(expected)
        assert {found["compared"]["final_tensor_digest"]} == golden_digests()
    for verb, word in (("rerun", "completed"), ("verify", "bitwise")):
        before = runs_of(checkout)
        again = checkout.compose("run", "--rm", "-T", verb, run.name)
        assert again.returncode == 0, again.stdout + again.stderr
        assert word in again.stdout
        (repeated,) = runs_of(checkout) - before
        assert owners_in(repeated) == {(uid, uid)}
        assert manifest_of(checkout.runs, repeated.name)["status"] == "completed"
        assert manifest_of(checkout.runs, repeated.name)["compared"] == found["compared"]
    # In a container like theirs, by the very words that the screens name.
    here, called = f"runs/_out/{run.name}", "docker-compose run --rm harness"
    assert f"again      {called} rerun {here}\ncheck      {called} verify {here}\n" in done.stdout
    assert f"repeated in runs/_out/{repeated.name}\n" in again.stdout
    compared = checkout.compose("run", "--rm", "-T", "harness", "compare", here, repeated.name)
    assert (compared.returncode, compared.stdout.splitlines()[-1:]) == (0, ["bitwise"]), compared.stderr
    refused = checkout.compose("run", "--rm", "-T", "resume", run.name)
    assert refused.returncode == 2
    assert f"there is nothing left to do; run it again by `{called} rerun {here}`" in refused.stderr


def within_reach(bait: Bait) -> dict[str, str]:
    """Return commands that go through a hole in the walls, and a word of the complaint when there is none."""
    connect = f'import socket; socket.create_connection((\\"{bait.gateway}\\", {bait.port}), 5)'
    return {
        f'python -c "{connect}"': "unreachable",
        "grep -x up /sys/class/net/*/operstate": "",
        f"cat {bait.secret}": "No such file",
        "ls /run/docker.sock": "No such file",
        "cp /bin/sh /tmp/sh && chown 4242 /tmp/sh": "not permitted",
        "setpriv --reuid 4242 true": "not permitted",
        "touch /etc/x": "Read-only",
        "grep Cap /proc/self/status | grep -v 0000000000000000": "",
        "grep NoNewPrivs /proc/self/status | grep -w 0": "",
        "env | grep CANARY": "",
    }


FORBIDDEN = {
    f"cat {Path(__file__).resolve()}": "No such file",
    "touch x": "Read-only",
    "touch runs/x": "Read-only",
    "touch /data/x": "Read-only",
    "touch /opt/ptychopinn/data/x": "Read-only",
    "touch /opt/ptychopinn/checkout/harness/x": "Read-only",
    "mount -t tmpfs none /mnt": "mount",
}
"""What a container must not be able to do either, and a word of its complaint."""


def shell_program(commands: Iterable[str]) -> str:
    return "\n".join(f'( {command} ) 2>&1; echo "== $?"' for command in commands)


def answers_of(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    """Return what each command of a program printed, and its exit status."""
    found: list[tuple[str, str]] = re.findall(r"(.*?)== (\d+)\n", done.stdout, flags=re.DOTALL)
    return found


def test_what_a_container_must_not_do_fails(owned: Checkout, bait: Bait) -> None:
    forbidden = {**within_reach(bait), **FORBIDDEN}
    if owned.runs.stat().st_uid != 0:
        forbidden["setpriv --reuid 0 true"] = "not permitted"
    done = owned.inside(shell_program(forbidden), CANARY="sings")
    answers = answers_of(done)
    assert len(answers) == len(forbidden), done.stdout + done.stderr
    for (command, complaint), (printed, status) in zip(forbidden.items(), answers, strict=True):
        assert status != "0", f"{command}: {printed}"
        assert complaint in printed, f"{command}: {printed}"


def test_the_same_succeeds_in_a_container_without_walls(checkout: Checkout, bait: Bait) -> None:
    commands = within_reach(bait)
    holes = ["--user", "0:0", "--env", "CANARY=sings", "--volume", "/var/run/docker.sock:/run/docker.sock"]
    holes += ["--volume", f"{bait.secret.parent}:{bait.secret.parent}:ro", "--entrypoint", "sh"]
    command = ["docker", "run", "--rm", *holes, f"{checkout.image}:cpu", "-c", shell_program(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answers = dict(zip(commands, answers_of(done), strict=True))
    assert {command: printed for command, (printed, status) in answers.items() if status != "0"} == {}


def test_a_container_runs_as_the_owner_of_the_run_folder_and_may_write_there(owned: Checkout) -> None:
    uid = owned.runs.stat().st_uid
    done = owned.inside("id -u && id -g && id -G && touch runs/_out/canary && rm runs/_out/canary")
    assert (done.returncode, done.stdout.split()) == (0, [str(uid)] * 3), done.stderr


def test_another_owner_can_be_named(checkout: Checkout) -> None:
    done = checkout.inside("id -u; id -g", HARNESS_UID="4242", HARNESS_GID="4243")
    assert done.stdout.split() == ["4242", "4243"]


def test_the_image_alone_is_not_root(checkout: Checkout) -> None:
    command = ["docker", "run", "--rm", "--network", "none", f"{checkout.image}:cpu", "id", "-u"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "65532"


@pytest.mark.parametrize("name", ["harness/errors.py", "docker/requirements-cpu.lock"])
def test_an_edited_line_never_runs_in_an_old_image(checkout: Checkout, name: str) -> None:
    path = checkout.path / name
    text = path.read_bytes()
    try:
        path.write_bytes(text + b"\n")
        done = checkout.compose("run", "--rm", "-T", "train", SPEC)
    finally:
        path.write_bytes(text)
    assert done.returncode == 2
    sentence = next(
        line for line in done.stderr.splitlines() + done.stdout.splitlines() if "harness: " in line
    )
    assert name in sentence
    assert "docker-compose build train" in sentence


def test_a_stop_is_heard_and_the_run_is_resumed_to_its_end(owned: Checkout) -> None:
    before = runs_of(owned)
    started = owned.compose("run", "-d", "-T", "train", f"{SPEC}", "--set", "training.epochs=24")
    assert started.returncode == 0, started.stderr
    container = started.stdout.split()[-1]
    try:
        until(lambda: any('"training"' in read(run / "journal.jsonl") for run in runs_of(owned) - before))
        subprocess.run(["docker", "stop", "--time", "100", container], capture_output=True, check=True)
        wait = subprocess.run(["docker", "wait", container], capture_output=True, text=True, check=True)
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)
    (run,) = runs_of(owned) - before
    manifest = manifest_of(owned.runs, run.name)
    assert wait.stdout.strip() == "143"
    assert manifest["status"] == "interrupted"
    assert (run / "checkpoints" / "last.ckpt").is_file()
    resumed = owned.compose("run", "--rm", "-T", "resume", run.name)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    manifest = manifest_of(owned.runs, run.name)
    assert manifest["status"] == "completed"
    assert manifest["metrics"]["epochs"] == 24
    assert len(manifest["attempts"]) == 2


@only_root
def test_the_line_of_the_ci_examples_holds_the_image_against_the_golden(checkout: Checkout) -> None:
    script = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab-ci.yml").read_text())["container"]["script"]
    (line,) = (shlex.split(line) for line in script if "golden check" in line)
    assert line[:2] == ["docker", "compose"]
    os.chown(checkout.runs, 1000, 1000)
    done = checkout.compose(*line[2:])
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((checkout.runs / "golden.json").read_text())
    assert verdict["holds"]
    lanes = {lane["name"]: lane["status"] for lane in verdict["lanes"]}
    assert lanes["A/B"] == lanes["golden"] == "holds"
    reports = [checkout.runs / f"golden.{kind}" for kind in ("json", "xml", "md")]
    assert {report.stat().st_uid for report in reports} == {1000}


def runs_of(checkout: Checkout) -> set[Path]:
    return set(checkout.runs.glob("ci-*"))


def owners_in(run: Path) -> set[tuple[int, int]]:
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (run, *run.rglob("*"))}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
