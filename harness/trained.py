"""A network that was trained before, as the start of another training: of a run, or of a checkpoint file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, Problem, UserError
from harness.lookup import is_run
from harness.resolved import INIT_FROM
from harness.run_sources import CheckpointSource
from harness.store import file_digest

if TYPE_CHECKING:
    from harness.manifest import CheckpointRecord, Manifest
    from harness.spec import RunSpec
    from ptycho_torch.config import ModelConfig

__all__ = ["FoundNetwork", "find_network", "kept_network", "unfit"]

_LAST = "checkpoints/last.ckpt"
_TOPOLOGY = (
    *("N", "gridsize", "generator", "n_filters_scale", "amp_activation"),
    *("attention", "probe_big", "object_big", "border_channels", "grouping"),
)


@dataclass(frozen=True)
class FoundNetwork:
    """A network, the file that holds it, and the ``model`` block that it was trained with."""

    source: CheckpointSource
    path: Path
    model: Mapping[str, Any]


def kept_network(run: Path, manifest: Manifest) -> CheckpointRecord:
    """Return the record of the last weights that a run has kept, once they are what it recorded.

    Raises
    ------
    UserError
        It has kept none.
    DamagedError
        The file is gone, or is another by now.
    """
    from harness.manifest import DamagedError  # loaded where a run is named only

    kept = next((one for one in manifest.checkpoints if one.path == _LAST), None)
    if kept is None:
        raise UserError(f"{run.name} ({manifest.status}) kept no {_LAST}: name one that has trained")
    path = run / kept.path
    if not path.is_file() or file_digest(path) != kept.sha256:
        raise DamagedError(f"{path} is missing or damaged: its sha256 is not the manifest's")
    return kept


def find_network(spec: RunSpec, folders: Sequence[Path]) -> tuple[FoundNetwork | None, list[Problem]]:
    """Find the network that a spec starts from.

    Parameters
    ----------
    spec
        The spec.
    folders
        Data folders. The name is taken from the spec's own folder first, then from these, then from here.

    Returns
    -------
    The network, None where none is named or there is a problem; and the problem.
    """
    named = spec.get(INIT_FROM)
    if not isinstance(named, str):
        return None, []
    try:
        return _found(named, (spec.folder, *folders, Path())), []
    except (HarnessError, OSError) as error:
        return None, [spec.problem(" ".join(str(error).splitlines()), INIT_FROM)]


def _found(named: str, folders: Sequence[Path]) -> FoundNetwork:
    path = next((folder / named for folder in folders if (folder / named).exists()), None)
    if path is None:
        looked = ", ".join(dict.fromkeys(str((folder / named).parent) for folder in folders))
        raise UserError(f"there is no run and no checkpoint {named} in {looked}")
    # Loaded where a network is named only, as the manifest is.
    from harness.checkpoint_file import Tensor, read_checkpoint, weights_digest

    run, has_collapsed = "", False
    if path.is_dir():
        from harness.manifest import read_manifest

        if not is_run(path):
            raise UserError(f"{path} is neither a run nor a checkpoint file")
        run, folder = path.resolve().name, path
        manifest = read_manifest(folder)
        has_collapsed = manifest.status == "collapsed"
        path = folder / kept_network(folder, manifest).path
    content = read_checkpoint(path)
    facts, state = content.get("hyper_parameters"), content.get("state_dict")
    model = facts.get("model") if isinstance(facts, Mapping) else None
    has_weights = isinstance(state, Mapping) and all(isinstance(one, Tensor) for one in state.values())
    if not isinstance(model, Mapping) or not has_weights:
        raise UserError(f"{path.name} is no checkpoint of a training: it does not say of which network")
    source = CheckpointSource(
        name=_LAST if run else path.name,
        run=run,
        sha256=file_digest(path),
        size=path.stat().st_size,
        tensor_digest=weights_digest(content),
        has_collapsed=has_collapsed,
    )
    return FoundNetwork(source, path.resolve(), model)


def unfit(spec: RunSpec, network: FoundNetwork, model: ModelConfig) -> list[Problem]:
    """Say in which fields of its ``model`` block a run asks for another network than it starts from."""
    here, there = _topology(vars(model), model), _topology(network.model, model)
    differing = [
        f"model.{name} is {here[name]!r} here and was {there[name]!r}"
        for name in _TOPOLOGY
        if here[name] != there[name]
    ]
    if not differing:
        return []
    whose = network.source.run or network.source.name
    return [
        spec.problem(f"the weights of {whose} do not fit this network: {', '.join(differing)}", INIT_FROM)
    ]


def _topology(values: Mapping[str, Any], model: ModelConfig) -> dict[str, Any]:
    """Return what makes the network; a checkpoint from before a field came was made with its default."""
    added = {field.name: field.default for field in dataclasses.fields(model) if "added" in field.metadata}
    found = {name: values.get(name, added.get(name)) for name in _TOPOLOGY}
    return {**found, "border_channels": found["border_channels"] or 1}
