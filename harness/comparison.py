"""Two runs beside each other: what was asked, what they ran on, where their trainings part, what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.compare import code_differences, environment_differences
from harness.manifest import Manifest
from harness.verdict import CONDITIONS
from harness.verification import parting_of, verdict_on
from ptycho_torch.trace import TRACE

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
    is_bitwise
        Whether everything that came out is the same to the last bit.
    tolerance
        Where no more is promised than the same figures, and they are: the verdict in one line.
    """

    inputs: tuple[str, ...]
    data: tuple[str, ...]
    code: tuple[str, ...]
    environment: tuple[str, ...]
    trace: tuple[str, ...]
    results: tuple[str, ...]
    is_bitwise: bool
    tolerance: str = ""

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.tolerance:
            return self.tolerance
        if not self.is_bitwise:
            return "the results differ" + (f": {self.trace[0]}" if self.trace else "")
        conditions = [name for name in ("inputs", "data", "code", "environment") if getattr(self, name)]
        return "bitwise" + (f", although {', '.join(conditions)} differ" if conditions else "")


def compare_runs(first: tuple[Path, Manifest], second: tuple[Path, Manifest]) -> Comparison:
    """Compare two runs that have manifests.

    Parameters
    ----------
    first, second
        Folder and manifest of each.
    """
    (first_dir, one), (second_dir, other) = first, second
    verdict = verdict_on(first, second)
    on_gpu = "environment.gpu" in {*one.compared, *other.compared}
    parting = parting_sentence(first_dir, second_dir)
    return Comparison(
        inputs=tuple(_inputs(one, other)),
        data=tuple(_data(one, other)),
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
        is_bitwise=verdict.is_bitwise,
        tolerance=verdict.headline if verdict.kind == "tolerance" else "",
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
        f"the trainings part at step {parting.step + 1} (epoch {parting.epoch}, batch {parting.batch}): "
        f"{parting.kind} {parting.first} -> {parting.second}; "
        f"all weights are known to be the same after step {parting.agreed_step}"
    )


def _inputs(one: Manifest, other: Manifest) -> Iterator[str]:
    for key in sorted({*one.resolved, *other.resolved}):
        was, now = one.resolved.get(key), other.resolved.get(key)
        if was is not None and now is not None and _same(was.value, now.value):
            continue
        told = [
            "absent" if leaf is None else f"{leaf.value!r} ({leaf.place or leaf.source})"
            for leaf in (was, now)
        ]
        yield f"{key} {told[0]} -> {told[1]}"


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and bool(first == second)


def _data(one: Manifest, other: Manifest) -> Iterator[str]:
    was, now = ({record.role: record for record in run.data} for run in (one, other))
    for role in sorted({*was, *now}):
        told = [
            "absent" if role not in side else f"{side[role].name}, sha256 {side[role].sha256[:12]}"
            for side in (was, now)
        ]
        if role not in was or role not in now or was[role].sha256 != now[role].sha256:
            yield f"{role} {told[0]} -> {told[1]}"


def _exactness(one: Manifest, other: Manifest) -> Iterator[str]:
    if one.exactness.profile != other.exactness.profile:
        yield f"profile {one.exactness.profile} -> {other.exactness.profile}"
    if one.exactness.threads != other.exactness.threads:
        yield f"threads {one.exactness.threads} -> {other.exactness.threads}"
    was, now = (run.exactness.observed.get("known_answers") for run in (one, other))
    if isinstance(was, dict) and isinstance(now, dict):
        differing = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if differing:
            yield f"known answers {', '.join(differing)}: the processes compute with other kernels"
    images = [run.environment.image.id if run.environment.image else "none" for run in (one, other)]
    if images[0] != images[1]:
        yield f"image {images[0]} -> {images[1]}"
