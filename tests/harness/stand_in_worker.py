"""A worker that trains nothing: a real process that keeps the worker's contract in a moment.

Its results follow from the resolved run and the data alone, as those of the real worker do.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from harness.code_capture import source_digest
from harness.outcome import CheckpointRecord, Outcome, ProductRecord, status_of_fault, write_outcome
from harness.progress import write_progress
from harness.store import REFUSED, append_event, file_digest
from ptycho_torch.trace import TraceLine

sys.path.append(str(Path(__file__).parent))
from torch_archive import write_checkpoint

LONG_S = 900
"""Until a signal comes, on a slow machine too; one that a test has left behind ends then."""

run_dir, behaviour = Path(sys.argv[1]), sys.argv[2]
append_event(run_dir, "stand-in", behaviour=behaviour)
if behaviour == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "silent":
    os.kill(os.getpid(), signal.SIGKILL)
write_progress(run_dir, "training", epoch=0, epochs=2, step=1, steps=4, loss=0.5)
sys.stdout.write("the stand-in has begun\n")
sys.stdout.flush()

if behaviour == "crash":
    sys.exit(7)
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "nonsense":
    (run_dir / "outcome.json").write_text('{"status": "excellent"}')
    sys.exit(0)


def wait_for_a_signal() -> None:
    def stop(number: int, frame: object) -> None:
        write_outcome(run_dir, Outcome("interrupted", f"stopped by signal {number}"))
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    write_progress(run_dir, "waiting")
    time.sleep(LONG_S)


if behaviour == "wait":
    wait_for_a_signal()
if behaviour == "ignore":
    write_progress(run_dir, "waiting")
    time.sleep(LONG_S)
if behaviour == "late":  # a signal comes when there is nothing left to stop
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    write_progress(run_dir, "waiting")
    signal.sigtimedwait({signal.SIGTERM}, LONG_S)

resolved = json.loads((run_dir / "resolved.json").read_text())
inputs = json.loads((run_dir / "inputs.json").read_text())
data = {
    role: {"sha256": file_digest(run_dir / place), "shape": [20, 64, 64]} for role, place in inputs.items()
}
seed = json.dumps([resolved["digest"], data, behaviour == "drift"]).encode()
tensors = hashlib.sha256(seed).hexdigest()
if behaviour == "environment":
    tensors = hashlib.sha256(json.dumps(dict(os.environ), sort_keys=True).encode()).hexdigest()
    (run_dir / "products" / "environment.json").write_text(json.dumps(dict(os.environ)))

checkpoint = run_dir / "checkpoints" / "last.ckpt"
numbers = [int(tensors[at : at + 4], 16) / 65536 for at in range(0, 64, 4)]
parameters = {"w": numbers[:8], "b": numbers[8:]}
kept_digest = write_checkpoint(checkpoint, parameters, global_step=4, epoch=2, kept=tensors)
traced = [TraceLine(step + 1, step // 2, step % 2, "d", numbers[step].hex()) for step in range(4)]
(run_dir / "trace.jsonl").write_text("".join(f"{line.to_json()}\n" for line in traced))
if resolved["payload"]["execution_config"]["logger_backend"] == "csv":
    (run_dir / "logs" / "csv").mkdir()
    (run_dir / "logs" / "csv" / "metrics.csv").write_text(f"step,train_loss\n3,{numbers[3]}\n")
weights = run_dir / "products" / "weights.safetensors"
weights.write_bytes(tensors.encode())
image = run_dir / "products" / "reconstruction.npz"
if behaviour == "image":
    image.write_bytes(tensors.encode() * 3)
if "image" in inputs:
    image.write_bytes((run_dir / inputs["image"]).read_bytes())
if behaviour == "refuse":
    append_event(run_dir, REFUSED)
has_failed = behaviour in {"fail", "refuse"}
outcome = Outcome(
    status="collapsed" if behaviour == "collapse" else "failed" if has_failed else "completed",
    error="the loss is not a number" if behaviour == "fail" else None,
    data=data,
    groups_digest=hashlib.sha256(b"groups").hexdigest(),
    seeds={"seed": 42},
    exactness_observed={
        "threads": 1,
        "known_answers": {"exp": "e", "matmul": "drifted" if behaviour == "drift" else "m"},
    },
    environment={"source_digest": "0" * 64 if behaviour == "stale" else source_digest()},
    checkpoints=(
        CheckpointRecord("checkpoints/last.ckpt", 4, 2, None, file_digest(checkpoint), kept_digest),
    ),
    final_tensor_digest=kept_digest,
    optimizer_digest=tensors,
    products=(ProductRecord("products/weights.safetensors", file_digest(weights)),),
    metrics={"train_loss": float("nan") if behaviour == "fail" else 0.1, "phase_correlation": 0.9},
    timings={"training_seconds": time.monotonic()},
)
if behaviour == "torn":
    weights.write_bytes(b"something else")
if behaviour == "full disk":
    sys.exit(status_of_fault(OSError(errno.ENOSPC, "no room")))
write_outcome(run_dir, outcome)
if behaviour in {"states stay", "host dies"}:
    for name in ("resume-000000003.ckpt", "resume-000000003.ckpt.sha256", ".resume-000000004.ckpt.tmp"):
        (run_dir / "checkpoints" / name).write_bytes(b"a state")
if behaviour == "states stay":
    sys.exit(status_of_fault(OSError(errno.EIO, "no answer")))
if behaviour == "host dies":
    while not (run_dir / "begun.json").exists():
        time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGKILL)
sys.exit(0 if outcome.status == "completed" else 1)
