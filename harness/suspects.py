"""Everything in which two runs differ, thing by thing, as what may be the cause of a parting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.compare import environment_differences
from harness.manifest import Manifest
from ptycho_torch.additions import is_unused_addition

__all__ = [
    "Area",
    "Suspect",
    "input_differences",
    "known_answers_that_differ",
    "scan_differences",
    "suspects",
]

Area: TypeAlias = Literal["attempt", "event", "inputs", "data", "code", "environment"]


@dataclass(frozen=True)
class Suspect:
    """One thing in which two runs differ.

    Parameters
    ----------
    area
        Where it stands: a value of the spec, data, a source file, the environment, an attempt that went on
        from a saved state, or an event that no record explains.
    name
        Key of the value, role of the data, path of the file, name of the package or part.
    sentence
        What it was in the one run and what it is in the other.
    step
        Optimizer steps after which it came in; None for what holds from the beginning.
    """

    area: Area
    name: str
    sentence: str
    step: int | None = None


def suspects(
    one: Manifest, other: Manifest, names: tuple[str, str] = ("the first", "the second")
) -> tuple[Suspect, ...]:
    """List everything in which two runs differ, in the order of their records.

    Parameters
    ----------
    one, other
        The manifests.
    names
        What the runs are called.
    """
    return (
        *_attempts(one, other, names),
        *_inputs(one, other),
        *_data(one, other),
        *_code(one, other),
        *_environment(one, other),
    )


def _attempts(one: Manifest, other: Manifest, names: tuple[str, str]) -> Iterator[Suspect]:
    for name, manifest in zip(names, (one, other), strict=True):
        for number, attempt in enumerate(manifest.attempts[1:], start=2):
            came_from = f"attempt {number} went on from the state after step {attempt.from_step}"
            differing = f", although {'; '.join(attempt.differences)}" if attempt.differences else ""
            sentence = f"{name} was broken off, and its {came_from}{differing}"
            yield Suspect("attempt", f"attempt {number}", sentence, attempt.from_step)


def input_differences(one: Manifest, other: Manifest) -> Iterator[tuple[str, str]]:
    """Yield every value in which two resolved specs differ: its key, and what it was and is, with places."""
    for key in sorted({*one.resolved, *other.resolved}):
        was, now = one.resolved.get(key), other.resolved.get(key)
        if was is not None and now is not None:
            if type(was.value) is type(now.value) and was.value == now.value:
                continue
        elif all(side is None or is_unused_addition(key, side.value) for side in (was, now)):
            continue  # one of the runs is from before the field came, and the other does as was done then
        told = [
            "absent" if leaf is None else f"{leaf.value!r} ({leaf.place or leaf.source})"
            for leaf in (was, now)
        ]
        yield key, f"{told[0]} -> {told[1]}"


def _inputs(one: Manifest, other: Manifest) -> Iterator[Suspect]:
    data = {record.role for run in (one, other) for record in run.data}
    are_data_others = any(True for _ in scan_differences(one, other))
    for key, told in input_differences(one, other):
        # What the spec says of a file is told once, with the data.
        if (
            key.rpartition(".")[2] in {"file", "source", "sha256"}
            and key.split(".")[1:2]
            and key.split(".")[1] in data
        ):
            continue
        # Nor is what was read off other data a difference of its own.
        if are_data_others and all(_is_read_off_data(run, key) for run in (one, other)):
            continue
        yield Suspect("inputs", key, f"{key} {told}")


def _is_read_off_data(run: Manifest, key: str) -> bool:
    return key in run.resolved and run.resolved[key].source == "inferred from data"


def scan_differences(one: Manifest, other: Manifest) -> Iterator[tuple[str, str]]:
    """Yield every scan in which two runs differ: its role, and name and digest of what it was and is."""
    was, now = ({record.role: record for record in run.data} for run in (one, other))
    for role in sorted({*was, *now}):
        told = [
            "absent" if role not in side else f"{side[role].name}, sha256 {side[role].sha256[:12]}"
            for side in (was, now)
        ]
        if role not in was or role not in now or was[role].sha256 != now[role].sha256:
            yield role, f"{told[0]} -> {told[1]}"


def _data(one: Manifest, other: Manifest) -> Iterator[Suspect]:
    files = {record.role for run in (one, other) for record in run.data if record.size is not None}
    for role, told in scan_differences(one, other):
        # A simulated scan has no other cause than its description and the code, which stand here too.
        if role in files:
            yield Suspect("data", role, f"{role} {told}")


def _code(one: Manifest, other: Manifest) -> Iterator[Suspect]:
    was, now = one.code.files, other.code.files
    for path in sorted({*was, *now}):
        if was.get(path) != now.get(path):
            how = "added" if path not in was else "removed" if path not in now else "changed"
            yield Suspect("code", path, f"{path} {how}")


def _environment(one: Manifest, other: Manifest) -> Iterator[Suspect]:
    on_gpu = "environment.gpu" in {*one.compared, *other.compared}
    for found in environment_differences(one.environment, other.environment, exact_cpu=True, on_gpu=on_gpu):
        words = found.sentence.split()
        name = words[1] if words[0] == "package" else {"C": "libc", "graphics": "gpu"}.get(words[0], words[0])
        yield Suspect("environment", name, found.sentence)
    for sentence in known_answers_that_differ(one, other):
        yield Suspect("environment", "known answers", sentence)


def known_answers_that_differ(one: Manifest, other: Manifest) -> Iterator[str]:
    """Name the basic operations to which the processes of two runs gave other answers, in one sentence."""
    was, now = (run.exactness.observed.get("known_answers") for run in (one, other))
    if isinstance(was, dict) and isinstance(now, dict):
        differing = [name for name in was if name in now and was[name] != now[name]]
        if differing:
            yield f"known answers {', '.join(differing)}: the processes compute with other kernels"
