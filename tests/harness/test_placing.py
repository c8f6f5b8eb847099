"""Which executor and image a spec or a recorded run asks for, and what is said when the image is gone."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from harness.cli import main
from harness.compare import environment_differences
from harness.errors import UserError
from harness.executors import EXECUTORS
from harness.executors.base import ImageExecutor
from harness.executors.docker import DockerExecutor
from harness.executors.local import LocalExecutor
from harness.images import ImageIdentity, MissingImageError
from harness.inventory import Inventory
from harness.manifest import Manifest
from harness.placing import executor_for_run, executor_for_spec
from harness.recorded import load
from harness.resolve import resolve
from harness.spec import read_spec
from tests.harness.conftest import Bench

IMAGE = "sha256:" + "a" * 64
RECIPE = {
    "org.opencontainers.image.base.name": "base:run-1234",
    "org.opencontainers.image.base.digest": "sha256:1",
}
IDENTITY = ImageIdentity(IMAGE, None, ("sha256:1",), "linux/amd64", "b" * 64, "cpu", RECIPE)
CONTAINER = Inventory("docker", "x86_64", "cpu", frozenset({"avx2", "fma"}), 4, is_in_image=True, image=IMAGE)


def silent(sentence: str) -> None:
    pytest.fail(f"nothing was to be said, but: {sentence}")


def in_container(manifest: Manifest) -> Manifest:
    return replace(manifest, environment=replace(manifest.environment, image=IDENTITY))


def test_only_the_docker_executor_takes_an_image() -> None:
    assert isinstance(DockerExecutor(), ImageExecutor)
    assert not isinstance(LocalExecutor(), ImageExecutor)
    assert set(EXECUTORS) == {"local", "docker"}


def test_a_spec_without_an_image_and_a_native_run_stay_outside(bench: Bench) -> None:
    assert executor_for_spec(read_spec(bench.spec), None).name == "local"
    manifest = load(bench.run().path).manifest
    assert executor_for_run("r", manifest, None, None, silent).name == "local"
    assert executor_for_run("r", in_container(manifest), "local", None, silent).name == "local"
    with pytest.raises(UserError, match="--image is cpu, but the executor 'local' uses no container"):
        executor_for_run("r", manifest, "local", "cpu", silent)


def test_a_spec_with_an_image_and_a_run_made_in_one_ask_the_engine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    manifest = in_container(load(bench.run().path).manifest)
    for ask in (
        lambda: executor_for_spec(read_spec(bench.spec, ("container.image=cpu",)), None),
        lambda: executor_for_spec(read_spec(bench.spec), "docker"),
        lambda: executor_for_run("r", manifest, None, None, silent),
    ):
        with pytest.raises(UserError, match=r"there is no Docker engine here, /nowhere/docker.sock"):
            ask()


def test_a_run_of_a_container_that_recorded_no_image_is_repeated_natively_with_a_note(bench: Bench) -> None:
    native = load(bench.run().path).manifest
    composed = replace(native, environment=replace(native.environment, build_id="b" * 64))
    said: list[str] = []
    assert executor_for_run("run-1", composed, None, None, said.append).name == "local"
    assert said == [
        "run-1 was made in a container that recorded no image, so it is carried out natively: "
        "--executor docker takes the image of this checkout"
    ]
    assert executor_for_run("run-1", composed, "local", None, silent).name == "local"


@pytest.mark.parametrize(
    ("verb", "behaviour", "rest"),
    [
        ("run", "complete", ()),
        ("rerun", "complete", ()),
        ("verify", "complete", ()),
        ("refine", "complete", ()),
        ("reconstruct", "complete", ("scan.npz",)),
        ("resume", "killed", ()),
    ],
)
def test_without_torch_a_native_run_is_refused_with_the_cure_before_anything_is_written(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    behaviour: str,
    rest: tuple[str, ...],
) -> None:
    subject = bench.spec if verb == "run" else bench.run(behaviour).path
    before = sorted(bench.spec.parent.rglob("*"))
    monkeypatch.setitem(sys.modules, "torch", None)  # Python's own way to say that there is none
    assert main([verb, str(subject), *rest, "--runs-dir", str(bench.runs)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("this environment has no torch, so nothing can run in it: add --executor docker")
    assert len(said.splitlines()) == 1
    assert sorted(bench.spec.parent.rglob("*")) == before
    assert main(["plan", str(bench.spec)]) == 0


class EmptyEngine(LocalExecutor):
    """An executor for images whose engine has lost the recorded one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def in_image(self, image: str, recorded: ImageIdentity | None = None) -> EmptyEngine:
        self.asked.append(image)
        if recorded is not None:
            raise MissingImageError(f"no {image}")
        return self

    def image_id(self) -> str:
        return IMAGE


def test_an_image_that_is_gone_is_never_replaced_unasked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EmptyEngine()
    monkeypatch.setattr("harness.placing.EXECUTORS", {"docker": lambda: engine})
    manifest = in_container(load(bench.run().path).manifest)
    with pytest.raises(MissingImageError) as refused:
        executor_for_run("run-1", manifest, None, None, silent)
    assert engine.asked == [IMAGE]
    for part in (f"the image that run-1 was made in, {IMAGE}, is gone", "`harness image build --target cpu`"):
        assert part in str(refused.value)
    for part in (
        f"commit {str(manifest.code.commit)[:12]}",
        "BASE_IMAGE=base:run-1234 (sha256:1) and the BUILD_IMAGE that was made beside it",
        "build id bbbbbbbbbbbb",
    ):
        assert part in str(refused.value)
    assert executor_for_run("run-1", manifest, None, "cpu", silent) is engine
    assert engine.asked[-1] == "cpu"


@pytest.mark.parametrize("image", ["none", "test", "ptychopinn-harness:cpu", "a@sha256:12"])
def test_a_mere_tag_is_refused_as_an_image(bench: Bench, monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    monkeypatch.setattr("harness.placing.EXECUTORS", {"docker": EmptyEngine})
    manifest = in_container(load(bench.run().path).manifest)
    with pytest.raises(UserError, match=f"^--image is {image}: write cpu or cuda"):
        executor_for_run("run-1", manifest, None, image, silent)
    assert executor_for_run("run-1", manifest, None, f"a@{IMAGE}", silent).name == "local"


def test_the_image_is_resolved_to_its_digest_and_the_request_stays_on_record(bench: Bench) -> None:
    run = resolve(read_spec(bench.spec, ("container.image=cpu",)), CONTAINER).run
    value, origin = run.leaves()["container.image"]
    assert (run.container.image, value, origin.layer) == (IMAGE, IMAGE, "resolved")
    assert (origin.note, origin.shadowed[0].value) == ("cpu on docker", "cpu")
    assert run.digest == bench.job().resolved.digest


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("cpus=5", "container.cpus: is 5, but the executor 'docker' has 4: lower it"),
        ("cpuset='0,4'", "container.cpuset: is '0,4', but the executor 'docker' has 4, numbered from 0"),
    ],
)
def test_more_cores_than_there_are_is_refused(bench: Bench, setting: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(read_spec(bench.spec, (f"container.{setting}",)), CONTAINER)
    assert sentence in str(refused.value)


def test_why_there_is_no_gpu_is_said_with_the_cure(bench: Bench) -> None:
    told = replace(CONTAINER, why_no_gpu="this image has no CUDA: set container.image to cuda")
    with pytest.raises(
        UserError, match=r"has cpu; this image has no CUDA: set container.image to cuda, or use"
    ):
        resolve(read_spec(bench.spec, ("execution.accelerator=cuda",)), told)


def test_another_image_is_named_and_stops_nothing(bench: Bench) -> None:
    was = load(bench.run().path).manifest.environment
    (one,) = environment_differences(was, replace(was, image=IDENTITY), exact_cpu=True)
    assert (one.sentence, one.matters) == (f"image none -> {IMAGE[:19]} (build id bbbbbbbbbbbb)", False)
    composed = replace(was, build_id="c" * 64)  # inside a container only that is known
    (one,) = environment_differences(replace(was, image=IDENTITY), composed, exact_cpu=True)
    assert one.sentence.endswith("(build id bbbbbbbbbbbb) -> of unknown id (build id cccccccccccc)")
