"""The worker's part of a refinement: the image of this run, or of the run that it was started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.progress import processor_seconds, write_progress
from harness.resolved import IMAGE
from harness.store import file_digest
from harness.worker_inputs import checked_input, collapse_of
from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.physics.probe import probe_support
from ptycho_torch.reference import with_reference
from ptycho_torch.refined import refine_scan

if TYPE_CHECKING:
    from harness.resolved import ResolvedRun
    from harness.worker import Worker
    from ptycho_torch.data.dataset import Scaling
    from ptycho_torch.readers import Scan
    from ptycho_torch.refine_record import Pass

__all__ = ["refine_image_of_another_run", "refine_own_image"]


def refine_image_of_another_run(worker: Worker, resolved: ResolvedRun, scans: Mapping[str, Scan]) -> None:
    """Refine the image that another run has made; nothing is trained.

    Parameters
    ----------
    worker
        Whose run it is.
    resolved
        What is to be done.
    scans
        Role to scan.
    """
    image = checked_input(worker.run_dir, resolved, IMAGE)
    worker.note(data={**worker.outcome.data, IMAGE: {"sha256": resolved.sources[IMAGE].sha256}})
    worker.keep("reconstruction.npz", image.read_bytes())
    module = PtychoDataModule(resolved.training, scans["train"], scans.get("test"), resolved.seed)
    refine_own_image(worker, resolved, scans, module.scaling)
    worker.note(status="completed", collapse=collapse_of(resolved.sources[IMAGE]))


def refine_own_image(
    worker: Worker, resolved: ResolvedRun, scans: Mapping[str, Scan], scaling: Scaling
) -> None:
    """Refine the image that lies among the products of this run.

    Parameters
    ----------
    worker, resolved, scans
        As in :func:`refine_image_of_another_run`.
    scaling
        That of the frames trained on.
    """
    config = resolved.refine
    if config is None:
        raise AssertionError("a refinement is resolved with its options")

    own: list[float] = []  # processor seconds of the passes over all frames: what comes after judges them

    def report(one: Pass, total: int) -> None:
        if one.number <= config.passes:
            own[:] = [round(processor_seconds() - began, 3)]
        write_progress(worker.run_dir, "refining", step=one.number, steps=total, loss=one.misfit)
        worker.stop_if_asked()

    began = processor_seconds()
    with worker.phase("refining"):
        image = worker.run_dir / "products" / "reconstruction.npz"
        made = refine_scan(
            with_reference(scans["train"], scans["reference"]) if "reference" in scans else scans["train"],
            config,
            counts_per_amplitude=scaling.counts_per_amplitude,
            seed=resolved.seed,
            network_image=image.read_bytes(),
            support=probe_support(resolved.training.model),
            report=report,
        )
        folder = worker.run_dir / "products" / "refined"
        folder.mkdir(exist_ok=True)
        for name, content in made.files.items():
            worker.keep(f"refined/{name}", content)
        if resolved.products.pictures:
            worker.draw(f"{resolved.name}, refined", made.image, made.aligned, made.metrics, folder)
    worker.timings["refining_passes_cpu_seconds"] = own[0]
    facts = {"start": config.start, "network_image": file_digest(image), **made.facts}
    worker.note(metrics={**worker.outcome.metrics, **made.metrics}, refinement=facts)
