"""The image itself: what is in it, and that it refuses to be built from anything but what the lock names."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.build_id import build_id
from harness.image_build import build_arguments
from harness.image_files import baked_record, image_entries, packages_in
from harness.images import connect, identify
from tests.container.compose_kit import ROOT, Checkout
from tests.container.unwanted import UNWANTED

pytestmark = pytest.mark.container
SITE = "opt/ptychopinn/venv/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def checkout(checkout: Checkout) -> Checkout:
    for words in (["init"], ["add", "."], ["commit", "--message", "All"]):
        git(checkout, *words)
    done = checkout.harness("image", "build", "--tag", f"{checkout.image}:cpu")
    assert done.returncode == 0, done.stderr
    assert f"build id   {build_id(checkout.path, 'cpu')}" in done.stdout
    return checkout


def git(checkout: Checkout, *words: str) -> str:
    somebody = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    command = ["git", "-C", str(checkout.path), *somebody, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def plain(packages: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((name.replace(".", "-"), version) for name, version in packages)


def pins(target: str) -> list[tuple[str, str]]:
    """Return names and versions in a lock, as it is for Linux."""
    locked = (ROOT / "docker" / f"requirements-{target}.lock").read_text(encoding="utf-8")
    line = r'^([a-z0-9._-]+)==(\S+)(?: ; sys_platform != "darwin")? \\$'
    return plain(re.findall(line, locked, flags=re.MULTILINE))


def test_the_bill_of_materials_names_every_package_of_the_lock_once(
    checkout: Checkout, tmp_path: Path
) -> None:
    # Beside other checkouts' tool, whose place would be another folder for every one.
    command = ["make", "sbom", f"SBOM_VENV={tmp_path / 'tool'}"]
    done = subprocess.run(command, cwd=checkout.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for target in ("cpu", "cuda"):
        bill = json.loads((checkout.path / "build" / f"sbom-{target}.json").read_text(encoding="utf-8"))
        assert plain((one["name"], one["version"]) for one in bill["components"]) == pins(target)


def test_no_compiler_and_no_cache_is_in_the_image_and_no_installer_and_no_wheel_in_our_part_of_it(
    checkout: Checkout,
) -> None:
    client = connect()
    identity = identify(client, f"{checkout.image}:cpu")
    entries = image_entries(client, identity.id)
    files = [path for path, entry in entries.items() if entry.kind in {"file", "link"}]
    assert [path for path in files if UNWANTED.fullmatch(path)] == []
    assert f"{SITE}/torch/__pycache__/__init__.cpython-311.pyc" in entries
    assert "opt/ptychopinn/src/harness/__pycache__/cli.cpython-311.pyc" in entries
    assert sorted(plain(packages_in(entries).items())) == pins("cpu")
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
    prefix = "org.opencontainers.image."
    notes = {name.removeprefix(prefix): text for name, text in identity.recipe.items()}
    assert all(notes[name] for name in ("title", "description", "version", "licenses"))
    assert notes["revision"] == git(checkout, "rev-parse", "HEAD")
    site = build_arguments(checkout.path, os.environ)
    base = client.images.get(site["BASE_IMAGE"])
    assert notes["base.name"] == site["BASE_IMAGE"]
    assert notes["base.digest"] == (site["BASE_IMAGE"].partition("@")[2] or base.id)
    shown = checkout.harness("image", "inspect", IMAGE=checkout.image)
    assert identity.id in shown.stdout
    assert "torch 2." in shown.stdout
    assert "this image was built from this checkout as it stands\n" in shown.stdout


def test_the_image_of_a_tree_that_is_not_as_committed_does_not_claim_its_commit(checkout: Checkout) -> None:
    note = checkout.path / "note.txt"
    note.write_text("new")
    try:
        done = checkout.harness("image", "build", "--tag", f"{checkout.image}:dirty")
    finally:
        note.unlink()
    assert done.returncode == 0, done.stderr
    told = identify(connect(), f"{checkout.image}:dirty").recipe["org.opencontainers.image.revision"]
    assert told == f"{git(checkout, 'rev-parse', 'HEAD')}-dirty"


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
    site = build_arguments(checkout.path, os.environ)
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


def test_two_builds_without_a_cache_from_checkouts_of_two_people_have_one_content(
    checkout: Checkout, tmp_path: Path
) -> None:
    elsewhere = dataclasses.replace(Checkout.copy(tmp_path / "another place"), image=checkout.image)
    for path in elsewhere.path.rglob("*"):  # as under umask 077, some years ago
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_500_000_000, 1_500_000_000))
    for built, tag in ((checkout, "again"), (elsewhere, "elsewhere")):
        done = built.harness("image", "build", "--no-cache", "--tag", f"{built.image}:{tag}")
        assert done.returncode == 0, done.stderr
    for one, other in (("again", "elsewhere"), ("cpu", "again")):
        compared = checkout.harness("image", "compare", *(f"{checkout.image}:{tag}" for tag in (one, other)))
        assert (compared.returncode, compared.stdout[:13]) == (0, "same content:"), compared.stdout
