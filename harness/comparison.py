"""Two runs beside each other: what was asked, what they ran on, where their trainings part, what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.compare import code_differences, environment_differences
from harness.manifest import Manifest
from harness.suspects import input_differences, known_answers_that_differ, scan_differences
from harness.verdict import CONDITIONS, differing
from harness.verification import damage_of, parting_of, verdict_on
from ptycho_torch.trace import TRACE, batch_in_words

__all__ = ["Comparison", "compare_runs", "parting_sentence"]


@dataclass(frozen=True)
class Comparison:
    """What two runs differ in, a sentence each.

    Parameters
    ----------
    inputs
        Values of the resolved spec.
    data
        Scans by their digests.
    code, environment
        Sources; interpreter, packages, processor, card, image.
    trace
        Where the trainings part; empty where they are the same or one run has no trace.
    results
        Compared facts that came out: checkpoints, metrics, products.
    damage
        Files of either run that are not what its manifest says; what they hold is compared no further.
    is_bitwise
        Whether everything that came out is the same to the last bit, and still is what came out.
    tolerance
        Where no more is promised than the same figures, and they are: the verdict in one line.
    unfinished
        Where a run has not come to its end, and its steps are those of the other: the verdict in one line.
    """

    inputs: tuple[str, ...]
    data: tuple[str, ...]
    code: tuple[str, ...]
    environment: tuple[str, ...]
    trace: tuple[str, ...]
    results: tuple[str, ...]
    damage: tuple[str, ...]
    is_bitwise: bool
    tolerance: str = ""
    unfinished: str = ""

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.damage:
            return f"nothing is proven, files were altered: {self.damage[0]}"
        if self.tolerance or self.unfinished:
            return self.tolerance or self.unfinished
        if not self.is_bitwise:
            return "the results differ" + (f": {self.trace[0]}" if self.trace else "")
        conditions = [name for name in ("inputs", "data", "code", "environment") if getattr(self, name)]
        return "bitwise" + (f", although {differing(conditions)}" if conditions else "")


def compare_runs(first: tuple[Path, Manifest], second: tuple[Path, Manifest]) -> Comparison:
    """Compare two runs that have manifests.

    Parameters
    ----------
    first, second
        Folder and manifest of each.
    """
    (first_dir, one), (second_dir, other) = first, second
    damage = damage_of(first, second)
    verdict = verdict_on(first, second, damage=damage)
    on_gpu = "environment.gpu" in {*one.compared, *other.compared}
    is_trace_sound = not any(f": {TRACE} " in sentence for sentence in damage)
    parting = parting_sentence(first_dir, second_dir) if is_trace_sound else None
    return Comparison(
        inputs=tuple(f"{key} {told}" for key, told in input_differences(one, other)),
        data=tuple(f"{role} {told}" for role, told in scan_differences(one, other)),
        code=tuple(
            difference.sentence
            for difference in code_differences(one.code, other.code.files, other.code.commit, "see git log")
        ),
        environment=(
            *(
                difference.sentence
                for difference in environment_differences(
                    one.environment, other.environment, exact_cpu=True, on_gpu=on_gpu
                )
            ),
            *_exactness(one, other),
        ),
        trace=() if parting is None else (parting,),
        results=tuple(
            sentence for sentence in verdict.sentences if not sentence.startswith((*CONDITIONS, f"{TRACE}:"))
        ),
        damage=damage,
        is_bitwise=verdict.is_bitwise,
        tolerance=verdict.headline if verdict.kind == "tolerance" else "",
        unfinished=verdict.headline if verdict.kind == "unfinished" else "",
    )


def parting_sentence(first: Path, second: Path) -> str | None:
    """Say where the trainings of two runs part; None where they do not, or one left no trace.

    Raises
    ------
    DamagedError
        A trace is damaged.
    """
    parting = parting_of(first, second)
    if parting is None:
        return None
    return (
        f"the trainings part at {batch_in_words(parting.step, parting.epoch, parting.batch)}: "
        f"{parting.kind} {parting.told}; "
        f"all weights are known to be the same after step {parting.agreed_step}"
    )


def _exactness(one: Manifest, other: Manifest) -> Iterator[str]:
    if one.exactness.profile != other.exactness.profile:
        yield f"profile {one.exactness.profile} -> {other.exactness.profile}"
    if one.exactness.threads != other.exactness.threads:
        yield f"threads {one.exactness.threads} -> {other.exactness.threads}"
    yield from known_answers_that_differ(one, other)
