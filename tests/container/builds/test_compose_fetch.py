"""The one service that has a network: it brings data here, and can change nothing else."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.bait import bridge_gateway
from tests.container.compose_kit import ENTRYPOINT, Checkout, manifest_of
from tests.harness.spec_kit import write_scan

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else"),
]
OWNER = 1000


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder, and the address under which a container with a network finds it."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((bridge_gateway(), 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://{server.server_address[0]!s}:{server.server_port}"
        server.shutdown()


@pytest.fixture
def owned(checkout: Checkout) -> Checkout:
    """Return the checkout with folders for data and runs that belong to somebody else."""
    for folder in (checkout.path / "data", checkout.runs):
        os.chown(folder, OWNER, OWNER)
    return checkout


def test_what_is_fetched_is_whole_belongs_to_the_owner_of_the_folder_and_is_trained_on_and_reconstructed(
    owned: Checkout, served: tuple[Path, str]
) -> None:
    folder, address = served
    sha256 = write_scan(folder / "scan.npz")
    spec = owned.path / "runs" / "fetched.yaml"
    spec.write_text(
        f"name: fetched\ndata: {{train: {{source: '{address}/scan.npz', sha256: {sha256}}}}}\n"
        "model: {n_filters_scale: 1, attention: false, probe_big: false}\n"
        "training: {n_groups: 16, epochs: 1, batch_size: 8}\nproducts: {pictures: false}\n"
    )
    without_network = owned.compose("run", "--rm", "-T", "train", "runs/fetched.yaml")
    assert without_network.returncode == 2
    done = owned.compose("run", "--rm", "-T", "fetch", "runs/fetched.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    data = owned.path / "data"
    brought = [path for path in data.rglob("*") if path.name != ".gitkeep"]
    (file,) = (path for path in brought if path.is_file())
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    assert {(path.stat().st_uid, path.stat().st_gid) for path in brought} == {(OWNER, OWNER)}
    trained = owned.compose("run", "--rm", "-T", "train", "runs/fetched.yaml")
    assert trained.returncode in {0, 1}, trained.stdout + trained.stderr  # one epoch on noise may collapse
    record = manifest_of(owned.runs, "fetched-*")
    assert record["status"] in {"completed", "collapsed"}, record["error"]
    assert [one["sha256"] for one in record["data"]] == [sha256]
    (run,) = owned.runs.glob("fetched-*")
    turned = owned.compose(
        "run",
        "--rm",
        "-T",
        "reconstruct",
        run.name,
        f"/data/{file.relative_to(data)}",
        "--set",
        "products.pictures=false",
    )
    assert turned.returncode == 0, turned.stdout + turned.stderr
    record = manifest_of(owned.runs, "fetched-on-*")
    assert record["status"] == "completed"
    weights = hashlib.sha256((run / "checkpoints" / "last.ckpt").read_bytes()).hexdigest()
    assert {one["role"]: one["sha256"] for one in record["data"]} == {"scan": sha256, "model": weights}
    (made,) = owned.runs.glob("fetched-on-*/products/reconstruction.npz")
    assert {path.stat().st_uid for path in (made, made.parent)} == {OWNER}


@pytest.mark.parametrize(
    "place", ["runs/_out", "runs", "harness", "/data", "/opt/ptychopinn/checkout/harness"]
)
def test_fetching_can_write_nowhere_else(owned: Checkout, place: str) -> None:
    write = f"test -d {place} && touch /opt/ptychopinn/data/canary && ! touch {place}/canary"
    done = owned.compose("run", "--rm", "-T", "--entrypoint", ENTRYPOINT, "fetch", "sh", "-c", write)
    (owned.path / "data" / "canary").unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Read-only file system" in done.stderr + done.stdout
