"""The process that trains: reads ``resolved.json``, trains, makes the products, writes ``outcome.json``.

Started by every executor as ``python -m harness.worker RUN_DIR``; nobody imports it. It resolves nothing:
what is to be done stands in the run folder, and where the data lie on this machine in ``inputs.json``.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from harness.code_capture import digest_of_files, source_files, source_root
from harness.examined import batch_asked_for
from harness.lifeline import stop_with_the_host
from harness.outcome import CheckpointRecord, Outcome, ProductRecord, status_of_fault, write_outcome
from harness.progress import processor_seconds, read_progress, write_progress
from harness.reconstructing import reconstruct, reconstruct_own, reconstruct_test
from harness.refining import refine_image_of_another_run, refine_own_image
from harness.resolved import ResolvedRun
from harness.store import REFUSED, RESOLVED, append_event, file_digest, write_durably
from harness.worker_inputs import ChangedInputError, read_data, starting_weights
from ptycho_torch.alignment import Aligned
from ptycho_torch.callbacks import Progress, StopRequestedError, TrainingDivergedError
from ptycho_torch.durable import sync_tree
from ptycho_torch.errors import DataError, PtychoError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.digest import optimizer_digest, tensor_digest
from ptycho_torch.exact.profile import apply_and_verify
from ptycho_torch.payloads import InferencePayload
from ptycho_torch.products import weights_file
from ptycho_torch.resume import Cadence, find_continuation, forget_states
from ptycho_torch.stitching import Reconstruction
from ptycho_torch.training import KeptCheckpoint, TrainingResult, train_with_lightning

logger = logging.getLogger("harness.worker")
EXIT_FAILED = 1


class Worker:
    """One run in this process, and what is known of it so far.

    Parameters
    ----------
    run_dir
        The run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.outcome = Outcome(status="failed")
        self.stopped_by: int | None = None
        self.timings: dict[str, float] = {}

    def note(self, **facts: Any) -> None:
        """Add facts to the outcome."""
        timings = {**self.timings, "cpu_seconds": processor_seconds()}
        self.outcome = dataclasses.replace(self.outcome, timings=timings, **facts)

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Ask for an end after the step in flight."""
        self.stopped_by = signum

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and announce it; a request to stop is met before it begins and when it is done."""
        self.stop_if_asked()
        write_progress(self.run_dir, name)
        append_event(self.run_dir, "phase", name=name)
        started, spent = time.monotonic(), processor_seconds()
        try:
            yield
        finally:
            self.timings[f"{name}_seconds"] = time.monotonic() - started
            self.timings[f"{name}_cpu_seconds"] = round(processor_seconds() - spent, 3)
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Leave the run when somebody asked for it.

        Raises
        ------
        StopRequestedError
            With what was being done.
        """
        if self.stopped_by is not None:
            phase = read_progress(self.run_dir).get("phase", "starting")
            raise StopRequestedError(f"stopped on request while {phase}")

    def run(self) -> None:
        """Do everything, from the resolved run to the products."""
        resolved = ResolvedRun.from_json((self.run_dir / RESOLVED).read_text(encoding="utf-8"))
        if isinstance(resolved.payload, InferencePayload):
            reconstruct(self, resolved, resolved.payload)
            self.note()
            return
        with self.phase("preparing"):
            self.prepare(resolved)
            scans, facts = read_data(resolved, self.run_dir)
            self.note(data=facts)
        if resolved.is_refinement:
            refine_image_of_another_run(self, resolved, scans)
            return
        with self.phase("training"):
            payload = dataclasses.replace(resolved.training, output_dir=str(self.run_dir))
            continuation = find_continuation(self.run_dir)
            if continuation is not None:
                append_event(self.run_dir, "continuing", **continuation.facts)
            result = train_with_lightning(
                payload,
                scans["train"],
                scans.get("test"),
                seed=resolved.seed,
                report=self._report,
                should_stop=lambda: self.stopped_by is not None,
                continuation=continuation,
                weights=None if continuation else starting_weights(self.run_dir, resolved),
                cadence=Cadence(**vars(resolved.checkpoints)),
                examine=batch_asked_for(self.run_dir),
            )
            self.note(**self._trained(result))
        (self.run_dir / "products").mkdir(exist_ok=True)
        self.keep("weights.safetensors", weights_file(result.module))
        self.note(status="completed")
        if resolved.products.reconstruction:
            with self.phase("reconstructing"):
                reconstruct_own(self, resolved, scans, result)
                if "test" in scans:
                    reconstruct_test(self, resolved, scans["test"], result)
        if resolved.refine is not None:
            refine_own_image(self, resolved, scans, result.datamodule.scaling)
        self.note()

    def prepare(self, resolved: ResolvedRun) -> None:
        """Put the exactness profile into force and note what is known before anything is read."""
        observed = apply_and_verify(
            resolved.exactness.profile,
            resolved.exactness.threads,
            deterministic=resolved.payload.execution_config.deterministic,
            allow_tf32=resolved.payload.model.allow_tf32,
        )
        self.note(
            exactness_observed=observed,
            seeds={"seed": resolved.seed},
            environment={"source_digest": digest_of_files(source_files(source_root()))},
        )

    def draw(
        self,
        name: str,
        image: Reconstruction,
        aligned: Aligned | None,
        metrics: Mapping[str, float],
        folder: Path,
    ) -> None:
        """Make the pictures of an image, in a folder of the products."""
        from ptycho_torch.plotting import save_pictures  # the training itself never loads matplotlib

        for path in save_pictures(image, folder, aligned=aligned, metrics=metrics, title=name):
            self._record_product(path)

    def keep(self, name: str, content: bytes) -> None:
        """Write a product."""
        path = self.run_dir / "products" / name
        write_durably(path, content)
        self._record_product(path)

    def _record_product(self, path: Path) -> None:
        record = ProductRecord(path.relative_to(self.run_dir).as_posix(), file_digest(path))
        self.note(products=(*self.outcome.products, record))

    def report_prediction(self, done: int, total: int) -> None:
        """Say how many frames are predicted."""
        write_progress(self.run_dir, "reconstructing", step=done, steps=total)
        self.stop_if_asked()

    def _report(self, progress: Progress) -> None:
        write_progress(
            self.run_dir,
            "training",
            epoch=progress.epoch,
            epochs=progress.epochs,
            step=progress.epoch * progress.batches + progress.batch,
            steps=progress.epochs * progress.batches,
            loss=progress.loss,
        )
        # Lightning puts its own handlers in place when it starts; ours end the run at a step's end.
        self.listen()

    def _trained(self, result: TrainingResult) -> dict[str, Any]:
        return {
            "groups_digest": result.datamodule.groups_digest,
            "checkpoints": tuple(_record(self.run_dir, kept) for kept in result.checkpoints),
            "final_tensor_digest": tensor_digest(result.module.state_dict()),
            "optimizer_digest": optimizer_digest(result.trainer.optimizers[0].state_dict()),
            "metrics": {**result.metrics, "epochs": result.epochs, "steps": result.steps},
        }

    def listen(self) -> None:
        """Take requests to stop."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(signum) != self.stop:
                signal.signal(signum, self.stop)


def _record(run_dir: Path, kept: KeptCheckpoint) -> CheckpointRecord:
    content = DurableCheckpointIO().load_checkpoint(kept.path)
    return CheckpointRecord(
        path=kept.path.relative_to(run_dir).as_posix(),
        step=int(content["global_step"]),
        epoch=int(content["epoch"]),
        metric=kept.metric,
        sha256=file_digest(kept.path),
        tensor_digest=tensor_digest(content["state_dict"]),
    )


def main(arguments: list[str]) -> int:
    """Run the worker on a run folder and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    worker = Worker(Path(arguments[0]).resolve())
    worker.listen()
    stop_with_the_host(worker.run_dir)
    try:
        worker.run()
    except StopRequestedError as error:
        worker.note(status="interrupted", error=str(error))
    except PtychoError as error:
        logger.info("%s", error)
        is_final = isinstance(error, DataError | TrainingDivergedError)
        if is_final and not isinstance(error, ChangedInputError):
            append_event(worker.run_dir, REFUSED)
        worker.note(status="failed", error=" ".join(str(error).splitlines()))
    except Exception as error:
        logger.exception("the worker failed")
        worker.note(status="failed", error=f"{type(error).__name__}: {' '.join(str(error).splitlines())}")
    try:
        sync_tree(worker.run_dir)  # the outcome says that all the rest is there
        write_outcome(worker.run_dir, worker.outcome)
        if worker.outcome.has_ended:
            forget_states(worker.run_dir)
    except OSError as error:
        logger.exception("the outcome cannot be written, or the states cannot be removed")
        return status_of_fault(error)
    if worker.outcome.status == "interrupted" and worker.stopped_by is not None:
        return 128 + worker.stopped_by
    return 0 if worker.outcome.status == "completed" else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
