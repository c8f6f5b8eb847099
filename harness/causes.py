"""Which of the differences between two runs is likely to be the cause of their parting, and why.

A step computes in this order: the state it begins with, its batch, the network's patches, the physics, the
loss, the gradients, the learning rate, the update. The cause of a parting acts where the runs part: had it
acted earlier they would have parted earlier, and what acts only later cannot have parted them there.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from harness.suspects import Area, Suspect

__all__ = ["ACTS", "Cause", "place_of", "rank"]

_EVERYWHERE = (
    "weights",
    "constants",
    "order",
    "values",
    "network",
    "physics",
    "loss",
    "gradient",
    "rate",
    "update",
)
_ARITHMETIC = ("values", "network", "physics", "loss", "gradient", "update", "weights", "constants")
_NOWHERE: tuple[str, ...] = ()

_WORDS = {
    "weights": "the weights at the start",
    "constants": "probe and scales",
    "order": "which samples a batch holds",
    "values": "the samples' values",
    "network": "the network's forward pass",
    "physics": "the forward model",
    "loss": "the loss",
    "gradient": "the gradients",
    "rate": "the learning rate",
    "update": "the optimizer's step",
    "between": "the state between two steps",
    "end": "how long the training goes on",
    "kept": "what a checkpoint keeps beside the weights",
    "products": "what is made after the training",
}

ACTS: tuple[tuple[Area, str, tuple[str, ...]], ...] = (
    ("inputs", "seed", ("weights", "order")),
    ("inputs", "init_from", ("weights",)),
    ("inputs", "name", _NOWHERE),
    ("inputs", "data.*.simulate.*", ("values", "constants", "order")),
    ("inputs", "data.nphotons", ("constants", "values")),
    ("inputs", "data.units", ("constants", "values")),
    ("inputs", "data.*.units", ("constants", "values")),
    ("inputs", "data.*positions", ("values", "order")),
    ("inputs", "data.*", ("order", "values", "constants")),
    ("inputs", "training.n_groups", ("order", "end")),
    ("inputs", "training.batch_size", ("order", "end")),
    ("inputs", "training.epochs", ("end", "rate")),
    ("inputs", "training.loss", ("loss", "gradient")),
    ("inputs", "training.tv_weight", ("loss", "gradient")),
    ("inputs", "training.*", ("rate",)),
    ("inputs", "execution.learning_rate", ("rate",)),
    ("inputs", "execution.scheduler", ("rate",)),
    ("inputs", "execution.gradient_clip_val", ("update",)),
    ("inputs", "execution.accum_steps", ("gradient", "rate", "update")),
    ("inputs", "execution.early_stop_patience", ("end", "kept")),
    ("inputs", "execution.accelerator", _ARITHMETIC),
    ("inputs", "execution.deterministic", _ARITHMETIC),
    ("inputs", "execution.checkpoint_monitor_metric", ("rate", "end", "products", "kept")),
    ("inputs", "execution.inference_batch_size", ("products",)),
    ("inputs", "execution.middle_trim", ("products",)),
    ("inputs", "execution.pad_eval", ("products",)),
    ("inputs", "execution.*", _NOWHERE),
    ("inputs", "inference.*", ("products",)),
    ("inputs", "products.*", ("products",)),
    ("inputs", "checkpoints.*", _NOWHERE),
    ("inputs", "container.*", _NOWHERE),
    ("inputs", "model.amplitude_level", ("weights", "constants")),
    ("inputs", "model.amp_activation", ("weights", "network")),
    ("inputs", "model.intensity_scale_trainable", ("weights", "physics")),
    ("inputs", "model.probe_*", ("weights", "constants", "network", "physics")),
    ("inputs", "model.object_big", ("weights", "network", "physics")),
    ("inputs", "model.object_rim", ("physics",)),
    ("inputs", "model.gridsize", ("weights", "order", "values", "network")),
    ("inputs", "model.*", ("weights", "network")),
    ("inputs", "exactness.*", _ARITHMETIC),
    ("data", "reference", ("products",)),
    ("data", "init_from", ("weights",)),
    ("data", "test", ("rate", "end", "products")),
    ("data", "*", ("values", "constants", "order")),
    ("code", "ptycho_torch/readers/*", ("values", "constants", "order")),
    ("code", "ptycho_torch/data/simulate.py", ("values", "constants", "order")),
    ("code", "ptycho_torch/data/grouping.py", ("order",)),
    ("code", "ptycho_torch/data/dataset.py", ("values", "constants")),
    ("code", "ptycho_torch/data/*", ("order", "values")),
    ("code", "ptycho_torch/exact/sampler.py", ("order",)),
    ("code", "ptycho_torch/exact/seeding.py", ("weights",)),
    ("code", "ptycho_torch/exact/torch_seeding.py", ("weights",)),
    ("code", "ptycho_torch/exact/norm.py", ("gradient", "update")),
    ("code", "ptycho_torch/exact/profile.py", _ARITHMETIC),
    ("code", "ptycho_torch/exact/checkpoint_io.py", ("between", "kept")),
    ("code", "ptycho_torch/resume.py", ("between", "order")),
    ("code", "ptycho_torch/models/*", ("network", "weights", "gradient")),
    ("code", "ptycho_torch/interpolation.py", ("physics", "values")),
    ("code", "ptycho_torch/physics/simulation.py", ("values",)),
    ("code", "ptycho_torch/physics/*", ("physics", "constants", "gradient")),
    ("code", "ptycho_torch/losses/*", ("loss", "gradient")),
    ("code", "ptycho_torch/total_variation.py", ("loss", "gradient")),
    ("code", "ptycho_torch/schedulers.py", ("rate",)),
    (
        "code",
        "ptycho_torch/module.py",
        ("update", "gradient", "loss", "rate", "network", "physics", "weights"),
    ),
    ("code", "ptycho_torch/cuda_graph.py", ("network", "physics", "loss", "gradient", "between")),
    ("code", "ptycho_torch/differentiated.py", ("loss", "gradient")),
    ("code", "ptycho_torch/training.py", ("update", "between", "end", "order", "weights")),
    ("code", "ptycho_torch/callbacks.py", ("between", "end", "update", "kept")),
    ("code", "ptycho_torch/config*.py", _EVERYWHERE),
    ("code", "ptycho_torch/profiles.py", _ARITHMETIC),
    ("code", "ptycho_torch/trac*.py", ("between",)),
    ("code", "ptycho_torch/examination.py", ("between",)),
    ("code", "ptycho_torch/*", ("products",)),
    ("code", "harness/worker*.py", _EVERYWHERE),
    ("code", "harness/refining.py", ("products",)),
    ("code", "harness/reconstructing.py", ("products",)),
    ("code", "harness/plan.py", _ARITHMETIC),
    ("code", "harness/res*.py", _EVERYWHERE),
    ("code", "*", _NOWHERE),
    ("environment", "torch", (*_EVERYWHERE, "between")),
    ("environment", "numpy", ("order", "values", "constants")),
    ("environment", "scipy", ("values", "products")),
    ("environment", "lightning", ("order", "gradient", "rate", "update", "between", "end")),
    ("environment", "lock", _NOWHERE),
    ("environment", "image", _NOWHERE),
    ("environment", "known answers", _ARITHMETIC),
    ("environment", "processor", _ARITHMETIC),
    ("environment", "gpu", _ARITHMETIC),
    ("environment", "libc", _ARITHMETIC),
    ("environment", "interpreter", _EVERYWHERE),
    ("environment", "*", (*_EVERYWHERE, "end", "products")),
)
"""What acts where, the nearest place first; the first line that fits a suspect is taken."""

_AREAS: tuple[Area, ...] = ("event", "attempt", "inputs", "data", "code", "environment")


@dataclass(frozen=True)
class Cause:
    """A difference, and how likely it is the cause.

    Parameters
    ----------
    suspect
        The difference.
    likelihood
        ``likely`` where it acts where the runs part, ``possible`` where it acts earlier, or there among much
        else, ``unlikely`` where it acts elsewhere only.
    reason
        Why.
    """

    suspect: Suspect
    likelihood: str
    reason: str


def place_of(tensor: str, step: int) -> str:
    """Tell the place in a step's computation where a tensor is made.

    Parameters
    ----------
    tensor
        Its name, as in :class:`ptycho_torch.examination.BatchExamination`, or what a trace calls it.
    step
        Optimizer steps done before the batch.
    """
    beginning, _, rest = tensor.partition("/")
    if beginning == "before":
        at_start = "constants" if rest.startswith("forward_model.") else "weights"
        return at_start if step == 0 else "between"
    if (beginning == "batch" and rest) or tensor == "data":
        return "order" if rest == "index" else "values"
    if beginning == "activation":
        return "network" if rest.startswith("generator") else "physics"
    known = {
        "loss": "loss",
        "gradient": "gradient",
        "rate": "rate",
        "length": "end",
        "epoch": "end",
        "batch": "end",
        "checkpoints": "kept",
        "kept.checkpoints": "kept",
        "products": "products",
    }
    return known.get(beginning, "update")


def rank(found: Iterable[Suspect], tensor: str, step: int, shown: Collection[Area] = ()) -> tuple[Cause, ...]:
    """Put the differences between two runs in order, the likeliest cause of their parting first.

    Parameters
    ----------
    found
        The differences.
    tensor
        The first tensor that differs; a checkpoint's part where only that does; ``products`` where only
        what is made after the training does.
    step
        Optimizer steps done before the batch where the runs part.
    shown
        Areas that a replay has shown to be the cause: without their differences the runs did not part.
    """
    place = place_of(tensor, step)
    judged = [_judge(one, place, step, one.area in shown) for one in found]
    return tuple(cause for _, cause in sorted(judged, key=lambda pair: pair[0]))


def _judge(suspect: Suspect, place: str, step: int, is_shown: bool) -> tuple[tuple[float, int, str], Cause]:
    score, likelihood, reason = _weigh(suspect, place, step)
    if is_shown and likelihood != "unlikely":
        score, likelihood = score - 3, "likely"
        reason += f", and with the other run's {suspect.area} the run goes on otherwise"
    order = score, _AREAS.index(suspect.area), suspect.name
    return order, Cause(suspect, likelihood, reason)


def _weigh(suspect: Suspect, place: str, step: int) -> tuple[float, str, str]:
    if suspect.area == "event":
        return -4, "likely", "it does not happen again under the same conditions"
    if suspect.area == "attempt":
        if suspect.step == step:
            return -5, "likely", "the runs part at the very step from which it went on"
        return 3, "unlikely", "the runs part elsewhere"
    acts = _acts(suspect)
    if not acts:
        return 4, "unlikely", "it changes no number of a training"
    if place in acts:
        nearness = acts.index(place) / 10 + len(acts) / 20
        is_near = len(acts) <= 4 or acts.index(place) == 0
        return (
            nearness,
            "likely" if is_near else "possible",
            f"it acts on {_WORDS[place]}, where the runs part",
        )
    elsewhere = " and ".join(_WORDS[one] for one in acts[:2])
    if _acts_before(acts, place):
        return 2, "possible", f"it acts on {elsewhere}, which were the same up to there"
    return 3, "unlikely", f"it acts on {elsewhere}, and the runs part before"


def _acts_before(acts: Sequence[str], place: str) -> bool:
    if place not in _EVERYWHERE:
        return any(one in _EVERYWHERE for one in acts)
    return any(one in _EVERYWHERE[: _EVERYWHERE.index(place)] for one in acts)


def _acts(suspect: Suspect) -> Sequence[str]:
    return next(
        (
            acts
            for area, pattern, acts in ACTS
            if area == suspect.area and fnmatch.fnmatchcase(suspect.name, pattern)
        ),
        _EVERYWHERE,
    )
