"""The loggers that are no part of the tools, installed from their lock; nothing leaves the run folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho_torch.errors import NotRunnableError
from ptycho_torch.loggers import build_logger

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "docker" / "requirements-loggers.lock"
UNREACHABLE = re.compile(r"connection|timed out|name resolution|No matching distribution|Network is", re.I)

TRAIN = """
import json, sys
reached = []
def watch(event, given):
    if event == "socket.connect" and not isinstance(given[1], (str, bytes)):
        reached.append(str(given[1]))
    if event == "socket.getaddrinfo":
        reached.append(str(given[0]))
sys.addaudithook(watch)

from pathlib import Path
from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.readers import read_scan
from tests.torch.small_training import SMALL, column, fit

scan, folder, knobs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if "autolog" in knobs:
    import mlflow
    mlflow.set_tracking_uri(f"sqlite:///{Path(folder).parent}/{knobs.pop('autolog')}")
    mlflow.pytorch.autolog()
execution = PyTorchExecutionConfig(enable_checkpointing=False, **knobs)
payload = create_training_payload(scan, folder, SMALL, execution)
fit(payload, read_scan(scan))
print(json.dumps({"losses": column(payload, "train_loss"), "reached": reached}))
"""

READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{sys.argv[1]}")
runs = [run for found in client.search_experiments() for run in client.search_runs([found.experiment_id])]
print(json.dumps([
    [point.value for point in client.get_metric_history(run.info.run_id, "train_loss")] for run in runs
]))
"""

READ_WANDB = """
import json, struct, sys
from wandb.proto.wandb_internal_pb2 import Record
BLOCK, WHOLE, FIRST, LAST = 32768, 1, 2, 4
content, place, losses = open(sys.argv[1], "rb").read(), 7, []
while place + 7 <= len(content):
    if BLOCK - place % BLOCK < 7:
        place += BLOCK - place % BLOCK
        continue
    _, length, kind = struct.unpack_from("<IHB", content, place)
    part = content[place + 7 : place + 7 + length]
    text = part if kind in (WHOLE, FIRST) else text + part
    place += 7 + length
    if kind not in (WHOLE, LAST):
        continue
    record = Record.FromString(text)
    items = {(item.key or item.nested_key[0]): item.value_json for item in record.history.item}
    losses += [json.loads(items["train_loss"])] if "train_loss" in items else []
print(json.dumps(losses))
"""


@pytest.fixture(scope="session")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install what the lock pins and this environment lacks into a folder of its own."""
    folder = tmp_path_factory.mktemp("extras")
    blocks = re.split(r"^(?=[a-z])", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    absent = [block for block in blocks if not is_installed(block.split()[0])]
    (folder / "absent.txt").write_text("".join(absent), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--no-compile"]
    command += ["--require-hashes", "--only-binary", ":all:", "--target", str(folder / "packages")]
    command += ["--requirement", str(folder / "absent.txt"), "--retries", "5", "--timeout", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and UNREACHABLE.search(done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "packages"


def is_installed(pin: str) -> bool:
    name, _, version = pin.partition("==")
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def python(program: str, *arguments: str | Path, extras: Path, home: Path) -> str:
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WANDB_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=home,
        env={
            **kept,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{extras}",
            "HOME": str(home),
            "MPLCONFIGDIR": str(extras),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("backend", ["mlflow", "wandb"])
def test_without_its_extra_a_logger_is_refused_by_name(tmp_path: Path, backend: str) -> None:
    assert importlib.util.find_spec(backend) is None, f"{backend} is no part of the tools' lock"
    with pytest.raises(NotRunnableError, match=rf"'{backend}'.*\[{backend}\]"):
        build_logger(backend, tmp_path)


def test_mlflow_writes_a_store_into_the_run_folder_and_reaches_nobody(
    extras: Path, scan_file: Path, tmp_path: Path
) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    knobs = json.dumps({"logger_backend": "mlflow"})
    made = json.loads(python(TRAIN, scan_file, run, knobs, extras=extras, home=home))
    assert made["reached"] == []
    assert list(home.iterdir()) == []
    store = run / "logs" / "mlflow" / "mlflow.db"
    [losses] = json.loads(python(READ_MLFLOW, store, extras=extras, home=home))
    assert losses == pytest.approx(made["losses"])


def test_wandb_writes_its_file_into_the_run_folder_and_reaches_nobody(
    extras: Path, scan_file: Path, tmp_path: Path
) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    knobs = json.dumps({"logger_backend": "wandb"})
    made = json.loads(python(TRAIN, scan_file, run, knobs, extras=extras, home=home))
    assert made["reached"] == []
    assert list(home.iterdir()) == []
    [written] = (run / "logs" / "wandb").glob("offline-run-*/run-*.wandb")
    losses = json.loads(python(READ_WANDB, written, extras=extras, home=home))
    assert losses == pytest.approx(made["losses"])


@pytest.mark.parametrize(("is_disabled", "runs"), [(False, 1), (True, 0)])
def test_the_switch_keeps_an_installed_mlflow_from_logging_on_its_own_account(
    extras: Path, scan_file: Path, tmp_path: Path, is_disabled: bool, runs: int
) -> None:
    knobs = json.dumps({"autolog": "own.db", "disable_mlflow": is_disabled})
    python(TRAIN, scan_file, tmp_path / "run", knobs, extras=extras, home=tmp_path / "home")
    found = json.loads(python(READ_MLFLOW, tmp_path / "own.db", extras=extras, home=tmp_path / "home"))
    assert len(found) == runs
