"""A run's image refined, in a run folder of its own: nothing is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapted import with_image
from harness.compare import Found
from harness.errors import SpecError, UserError
from harness.manifest import RepeatedRun, damaged_files
from harness.recorded import AlteredError, Recorded, RefusedError, data_problems
from harness.resolve import refinement_of
from harness.resolved import IMAGE, REFINE
from harness.run import Finished, Job, run
from harness.run_sources import ImageSource
from harness.spec import read_spec, show_source, spec_of_options
from harness.spec_rules import refine_problems
from harness.spec_sets import SET_OPTION
from harness.store import SPEC, file_digest
from ptycho_torch.layers import Origin, Value
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.refine_config import RefineConfig

if TYPE_CHECKING:
    from harness.executors.base import Executor

__all__ = ["refine_run"]

_NETWORK_IMAGE = "products/reconstruction.npz"


def refine_run(
    recorded: Recorded,
    sets: Sequence[str],
    executor: Executor,
    *,
    runs_dir: Path,
    root: Path,
    found: Mapping[str, Found],
    look: Callable[[Path], None],
) -> Finished:
    """Refine the image of a recorded run, in a folder of its own.

    Parameters
    ----------
    recorded
        The run. Not one of its files is changed.
    sets
        ``products.refine.key=value``, over those that the run was given, over the block in its spec, over the
        defaults.
    executor, runs_dir, root, look
        As in :func:`harness.run.run`.
    found
        The data that :func:`harness.recorded.locate_data` found.

    Raises
    ------
    SpecError
        An option of the refinement is illegal.
    UserError
        The run has no image to refine, or an override is none of the refinement's.
    RefusedError
        The data are not what they were.
    AlteredError
        A file of the run is not what was written.
    """
    path = recorded.path
    if not isinstance(recorded.resolved.payload, TrainingPayload):
        raise UserError(f"{path.name} is a reconstruction of another scan: name a run that has trained")
    if damage := damaged_files(path, recorded.manifest):
        raise AlteredError(f"{path.name} cannot be refined: {'; '.join(damage)}")
    if changed := data_problems(recorded, found):
        raise RefusedError(f"{path.name} cannot be refined with other data: {'; '.join(changed)}")
    image = path / _NETWORK_IMAGE
    if not image.is_file():
        raise UserError(f"{path.name} is {recorded.manifest.status} and has no {_NETWORK_IMAGE} to refine")
    options, values, origins = _options(recorded, sets)
    digest = recorded.manifest.manifest_digest
    source = ImageSource(
        image.name,
        file_digest(image),
        image.stat().st_size,
        path.name,
        digest,
        has_collapsed=recorded.manifest.status == "collapsed",
    )
    here = with_image(recorded.resolved, executor)
    resolved = dataclasses.replace(
        here,
        refine=options,
        sources={**here.sources, IMAGE: source},
        own_values={**here.own_values, **values},
        own_origins={**here.own_origins, **origins},
    )
    inputs = {role: str(place.path) for role, place in found.items()} | {IMAGE: str(image.resolve())}
    job = Job(resolved, recorded.manifest.spec, inputs, RepeatedRun("refine", path.name, digest))
    return run(job, executor, runs_dir, root=root, look=look)


def _options(
    recorded: Recorded, sets: Sequence[str]
) -> tuple[RefineConfig, dict[str, Any], dict[str, Origin]]:
    """Return what is given now, over what the run was given with ``--set``, over what stands in its spec."""
    written = read_spec(recorded.path / SPEC).written
    earlier = {
        key: Value(recorded.resolved.own_values[key], note=f"as in {recorded.path.name}")
        for key, origin in recorded.resolved.own_origins.items()
        if key.startswith(f"{REFINE}.")
        and origin.layer == "explicit override"
        and (origin.place is None or origin.place.file == SET_OPTION)
    }
    spec = spec_of_options(SPEC, recorded.manifest.spec, {**written, **earlier}, sets, None)
    if foreign := sorted(key for key in spec.sets if not key.startswith(f"{REFINE}.")):
        raise UserError(f"--set {foreign[0]} is no option of the refinement: they begin with {REFINE}.")
    if problems := [*spec.problems, *(show_source(spec, one) for one in refine_problems(spec))]:
        raise SpecError(problems)
    return refinement_of(spec.sets, earlier, written)
