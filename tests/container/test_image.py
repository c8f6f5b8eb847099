"""The image itself: what is in it, and that it refuses to be built from anything but what the lock names."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build_id import build_id
from harness.image_files import baked_record, content_digest, differing_paths, image_entries, packages_in
from harness.images import connect, identify
from tests.container.compose_kit import ROOT, Checkout, need_engine

pytestmark = pytest.mark.container
SITE = "opt/ptychopinn/venv/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    need_engine()
    made = Checkout.copy(tmp_path_factory.mktemp("checkout"))
    done = made.harness("image", "build", "--tag", f"{made.image}:cpu")
    assert done.returncode == 0, done.stderr
    assert f"build id   {build_id(made.path, 'cpu')}" in done.stdout
    yield made
    made.remove_images()


def test_no_compiler_no_installer_no_wheel_and_no_cache_is_in_the_image_but_byte_code(
    checkout: Checkout,
) -> None:
    client = connect()
    identity = identify(client, f"{checkout.image}:cpu")
    entries = image_entries(client, identity.id)
    unwanted = re.compile(
        r"(.*/)?(gcc|cc|c\+\+|g\+\+|clang|make|pip3?|git)(-[\d.]+)?"
        r"|.*\.whl|.*/\.cache/.+|var/cache/apt/.+\.deb|var/lib/apt/lists/.+_Packages.*|root/\..*/.+"
    )
    ensurepip = re.compile(r"usr/(local/)?(lib|share)/python.*\.whl")
    found = [path for path, entry in entries.items() if entry.kind == "file" and unwanted.fullmatch(path)]
    assert [path for path in found if not ensurepip.fullmatch(path)] == []
    assert f"{SITE}/torch/__pycache__/__init__.cpython-311.pyc" in entries
    assert "opt/ptychopinn/src/harness/__pycache__/cli.cpython-311.pyc" in entries
    locked = (ROOT / "docker" / "requirements-cpu.lock").read_text(encoding="utf-8")
    line = r'^([a-z0-9._-]+)==(\S+)(?: ; sys_platform != "darwin")? \\$'
    pins = dict(re.findall(line, locked, flags=re.MULTILINE))
    installed = packages_in(entries)
    assert {name.replace(".", "-"): version for name, version in installed.items()} == {
        name.replace(".", "-"): version for name, version in pins.items()
    }
    writable = [
        path for path, entry in entries.items() if entry.uid or (entry.mode & 0o022 and entry.kind == "file")
    ]
    assert [path for path in writable if path.startswith("opt/")] == []


def test_the_image_says_what_it_was_built_from(checkout: Checkout) -> None:
    client = connect()
    identity = identify(client, f"{checkout.image}:cpu")
    record = baked_record(client, identity.id)
    assert record is not None
    assert record.build_id == identity.build_id == build_id(checkout.path, "cpu")
    assert identity.target == record.target == "cpu"
    notes = {name.rpartition(".")[2] for name in identity.recipe if name.startswith("org.opencontainers.")}
    assert {"title", "description", "version", "revision", "licenses", "name", "digest"} <= notes
    shown = checkout.harness("image", "inspect", f"{checkout.image}:cpu")
    assert identity.id in shown.stdout
    assert "torch 2." in shown.stdout


def test_an_image_compared_with_itself_is_the_same_and_with_its_base_is_not(checkout: Checkout) -> None:
    image = f"{checkout.image}:cpu"
    assert checkout.harness("image", "compare", image, image).returncode == 0
    other = f"{checkout.image}:other"
    recipe = f"FROM {image}\nUSER 0\nRUN chmod 600 /opt/ptychopinn/src/LICENSE\n"
    command = ["docker", "build", "--quiet", "--tag", other, "-"]
    subprocess.run(command, input=recipe, text=True, capture_output=True, check=True)
    done = checkout.harness("image", "compare", image, other)
    assert done.returncode == 3
    assert "different content: 1 of" in done.stdout
    assert "opt/ptychopinn/src/LICENSE: file 0644 0:0" in done.stdout


def test_an_image_that_there_is_not_is_named_with_the_way_to_get_it(checkout: Checkout) -> None:
    done = checkout.harness("image", "inspect", "ptychopinn-harness:absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert "harness image build" in done.stderr
    done = checkout.harness("image", "build", "--target", "gpu")
    assert (done.returncode, done.stderr) == (2, "there is no target 'gpu': write one of cpu, cuda, test\n")


def test_a_base_that_cannot_be_pulled_is_answered_with_the_command_that_makes_one(checkout: Checkout) -> None:
    absent = {"BASE_IMAGE": "registry.invalid/base:1", "BUILD_IMAGE": ""}
    done = checkout.harness("image", "build", "--tag", f"{checkout.image}:baseless", **absent)
    assert done.returncode == 1
    assert "`make base-image` goes first" in done.stderr.splitlines()[-1]


def test_a_wheel_with_one_byte_changed_is_refused(checkout: Checkout) -> None:
    site = site_settings(checkout.path)
    if not site.get("BUILD_IMAGE"):
        pytest.skip("this site has no wheel folder in a build image of its own: make base-image")
    tampered = f"{checkout.image}:tampered-base"
    recipe = f"FROM {site['BUILD_IMAGE']}\nRUN for f in /usr/local/share/wheels/*; do printf x >>$f; done\n"
    command = ["docker", "build", "--quiet", "--tag", tampered, "-"]
    subprocess.run(command, input=recipe, text=True, capture_output=True, check=True)
    done = checkout.harness("image", "build", "--tag", f"{checkout.image}:tampered", BUILD_IMAGE=tampered)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    listed = ["docker", "images", "--quiet", f"{checkout.image}:tampered"]
    assert subprocess.run(listed, capture_output=True, text=True, check=True).stdout == ""


def test_two_builds_without_a_cache_have_the_same_content(checkout: Checkout) -> None:
    again = f"{checkout.image}:again"
    done = checkout.harness("image", "build", "--no-cache", "--tag", again)
    assert done.returncode == 0, done.stderr
    client = connect()
    first, second = (
        image_entries(client, identify(client, name).id) for name in (f"{checkout.image}:cpu", again)
    )
    assert list(differing_paths(first, second)) == []
    assert content_digest(first) == content_digest(second)


def site_settings(root: Path) -> dict[str, str]:
    """Return what the site has set for builds."""
    from harness.image_build import build_arguments

    return build_arguments(root, os.environ)
