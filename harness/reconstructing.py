"""The worker's part of a reconstruction: a trained network, of this run or another, turned on one scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.quality import is_resolution
from harness.run_sources import FileSource
from harness.worker_inputs import checked_input, collapse_of, read_network, scan_facts
from ptycho_torch.evaluation import evaluate
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.exact.torch_seeding import seed_everything
from ptycho_torch.inference import (
    on_its_device,
    predict_patches,
    stitch_patches,
    synchronise,
    with_supported_probe,
    with_trained_probe,
)
from ptycho_torch.module import PtychoModule
from ptycho_torch.products import reconstruction_cxi, reconstruction_file
from ptycho_torch.readers import Scan, read_scan
from ptycho_torch.readers.frames import Hold, hold_in
from ptycho_torch.reconstruction import ScanResult, reconstruct_scan, scaling_for, trained_scaling
from ptycho_torch.reference import with_reference
from ptycho_torch.scratch import scratch_in

if TYPE_CHECKING:
    from harness.resolved import ResolvedRun
    from harness.worker import Worker
    from ptycho_torch.payloads import InferencePayload
    from ptycho_torch.training import TrainingResult

__all__ = ["reconstruct", "reconstruct_own", "reconstruct_test"]

_TEST = "test"


def reconstruct(worker: Worker, resolved: ResolvedRun, payload: InferencePayload) -> None:
    """Carry out a reconstruction; what grows with the number of frames is kept in scratch files.

    Parameters
    ----------
    worker
        Whose run it is.
    resolved, payload
        What is to be done.
    """
    store, execution = scratch_in(worker.run_dir), payload.execution_config
    with worker.phase("preparing"):
        worker.prepare(resolved)
        seed_everything(resolved.seed)
        scan = with_supported_probe(_read_scan(worker.run_dir, resolved, hold_in(store)), payload.model)
        checkpoint = read_network(worker.run_dir, resolved, "model")
        module = PtychoModule.from_checkpoint(checkpoint, execution)
        scaling = trained_scaling(module, scan)
        module = on_its_device(module)
        facts = {role: {"sha256": source.sha256} for role, source in resolved.sources.items()}
        facts["scan"] |= scan_facts(scan)
        worker.note(data=facts, final_tensor_digest=tensor_digest(module.state_dict()))
    (worker.run_dir / "products").mkdir(exist_ok=True)
    with worker.phase("reconstructing"):
        result = reconstruct_scan(
            module,
            scan,
            scaling,
            payload.inference,
            execution,
            batch_size=execution.inference_batch_size or 1,
            store=store,
            report=worker.report_prediction,
        )
        source = resolved.sources["scan"]
        pixel_size_m = source.header.pixel_size_m if isinstance(source, FileSource) else None
        worker.keep("reconstruction.npz", reconstruction_file(result.image, scan))
        worker.keep("reconstruction.cxi", reconstruction_cxi(result.image, scan, pixel_size_m))
        collapse = collapse_of(resolved.sources["model"])
        if resolved.products.pictures:
            _draw(worker, resolved.name, result, worker.run_dir / "products", is_collapsed=bool(collapse))
        worker.note(status="completed", metrics=result.metrics, collapse=collapse)


def reconstruct_own(
    worker: Worker, resolved: ResolvedRun, scans: Mapping[str, Scan], result: TrainingResult
) -> None:
    """Turn the network that this run has trained on the scan that it was trained on, and judge its image.

    Parameters
    ----------
    worker, resolved
        Whose run it is, and what is to be done.
    scans
        Its scans, by their roles.
    result
        The training.
    """
    on_its_device(result.module)
    scan = with_reference(scans["train"], scans["reference"]) if "reference" in scans else scans["train"]
    scan = with_trained_probe(result.module, scan)
    payload, data, execution = resolved.training, result.datamodule, resolved.payload.execution_config
    predictions = predict_patches(
        result.module,
        scan,
        result.module.scaling,
        batch_size=execution.inference_batch_size or payload.training.batch_size,
        report=worker.report_prediction,
    )
    predictions = synchronise(predictions, scan, resolved.inference, middle_trim=execution.middle_trim)
    window = resolved.inference.window
    image = stitch_patches(predictions, scan, execution, window=window)
    padded = dataclasses.replace(execution, pad_eval=True)
    evaluation = evaluate(
        scan=scan,
        train_frames=data.frames[0],
        counts_per_amplitude=data.scaling.counts_per_amplitude,
        loss_name=payload.training.loss,
        mean_counts=data.scaling.mean_counts,
        train_loss=result.metrics["train_loss"],
        predictions=predictions,
        reconstruction=image,
        whole=image if execution.pad_eval else stitch_patches(predictions, scan, padded, window=window),
    )
    verdict = evaluation.collapse
    worker.keep("reconstruction.npz", reconstruction_file(image, scan))
    if resolved.products.pictures:
        made = ScanResult(image, evaluation.metrics, evaluation.aligned)
        folder = worker.run_dir / "products"
        _draw(worker, resolved.name, made, folder, is_collapsed=verdict.is_collapsed)
    worker.note(
        status="collapsed" if verdict.is_collapsed else "completed",
        error="the network collapsed: " + "; ".join(verdict.reasons) if verdict.is_collapsed else None,
        metrics={
            **worker.outcome.metrics,
            **evaluation.metrics,
            "inference_batches": predictions.num_batches,
        },
        collapse={"is_collapsed": verdict.is_collapsed, "reasons": list(verdict.reasons)},
    )


def reconstruct_test(worker: Worker, resolved: ResolvedRun, test: Scan, result: TrainingResult) -> None:
    """Turn the network that this run has trained on its test scan; figures and products say ``test``.

    Parameters
    ----------
    worker, resolved
        Whose run it is, and what is to be done.
    test
        The scan.
    result
        The training.
    """
    payload, execution = resolved.training, resolved.payload.execution_config
    module = result.module
    scan = with_trained_probe(module, test)
    made = reconstruct_scan(
        module,
        scan,
        # A trained probe has the power that goes with the scales; one of the scan's own may have another.
        module.scaling if module.model.probe_trainable else scaling_for(module.scaling, scan),
        payload.inference,
        execution,
        batch_size=execution.inference_batch_size or payload.training.batch_size,
        store=scratch_in(worker.run_dir),
        report=worker.report_prediction,
    )
    folder = worker.run_dir / "products" / _TEST
    folder.mkdir(exist_ok=True)
    worker.keep(f"{_TEST}/reconstruction.npz", reconstruction_file(made.image, scan))
    if resolved.products.pictures:
        has_collapsed = worker.outcome.status == "collapsed"
        _draw(worker, f"{resolved.name}, {_TEST}", made, folder, is_collapsed=has_collapsed)
    told = {f"{_TEST}_{name}": value for name, value in made.metrics.items()}
    worker.note(metrics={**worker.outcome.metrics, **told})


def _draw(worker: Worker, title: str, made: ScanResult, folder: Path, *, is_collapsed: bool) -> None:
    metrics = {
        name: value for name, value in made.metrics.items() if not (is_collapsed and is_resolution(name))
    }
    said = f"{title}: the network collapsed" if is_collapsed else title
    worker.draw(said, made.image, made.aligned, metrics, folder)


def _read_scan(run_dir: Path, resolved: ResolvedRun, hold: Hold) -> Scan:
    source = resolved.sources["scan"]
    if not isinstance(source, FileSource):
        raise HarnessError(f"a reconstruction is of a file, not of a {source.kind} scan")
    path = checked_input(run_dir, resolved, "scan")
    return read_scan(
        path, format=source.header.format, positions=source.positions, units=source.units, hold=hold
    )
