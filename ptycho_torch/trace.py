"""The trace of a training: one line per batch, in which every number stands with all its bits.

The file is JSON Lines, only ever appended to; a line that a death has torn is left out when it is read.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = [
    "TRACE",
    "Parting",
    "TraceLine",
    "batch_in_words",
    "find_parting",
    "pack_sums",
    "read_trace",
    "state_before",
]

TRACE = "trace.jsonl"

_SUM_BYTES = 3
_SUM_CHARACTERS = 4


@dataclasses.dataclass(frozen=True)
class TraceLine:
    """One batch, and the state after it.

    Parameters
    ----------
    step
        Optimizer steps done after the batch.
    epoch, batch
        Which batch of which epoch, from zero.
    state
        Check sums of all weights and optimizer slots with which the batch began, four characters each.
    names
        What these are, in that order; as long as it may change, so before the first optimizer steps.
    data
        Digest of the batch: the numbers of its samples and all their values.
    loss
        Loss of the batch, a C99 hexadecimal float.
    gradient, rate
        Norm of the gradient before clipping, and the learning rate, likewise; only where an optimizer step
        followed.
    weights
        Digest of all weights, every few steps.
    tensors
        Name to digest of every weight and every optimizer slot, after an epoch's last batch.
    """

    step: int
    epoch: int
    batch: int
    data: str
    loss: str
    gradient: str | None = None
    rate: str | None = None
    weights: str | None = None
    tensors: Mapping[str, str] | None = None
    state: str | None = None
    names: Sequence[str] | None = None

    def to_json(self) -> str:
        """Render the line; what is None is left out."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return json.dumps(given, separators=(",", ":"))


@dataclasses.dataclass(frozen=True)
class Parting:
    """The first place where two traces are not the same.

    Parameters
    ----------
    line
        Index of the line.
    step, epoch, batch
        Optimizer steps done before that batch, and which batch it is, from zero.
    kind
        What differs first, in the order in which a step computes it: ``before/`` and the name of a weight or
        optimizer slot, ``data``, ``loss``, ``gradient``, ``rate``, ``weights``, a tensor, or ``length``
        where one trace ends and the other goes on.
    first, second
        The two values.
    agreed_step
        Optimizer steps after which all weights are known to be the same.
    """

    line: int
    step: int
    epoch: int
    batch: int
    kind: str
    first: str
    second: str
    agreed_step: int

    @property
    def told(self) -> str:
        """Both values in words; numbers of epochs and batches count from one, as they do for a person."""
        values = self.first, self.second
        if self.kind in _NUMBERS:
            values = str(int(self.first) + 1), str(int(self.second) + 1)
        return " -> ".join(values)


_NUMBERS = ("epoch", "batch")
_WHOLE = ("step", *_NUMBERS)
_ALWAYS = ("data", "loss")
_COMPUTED = ("epoch", "batch", "data", "loss", "gradient", "rate", "weights")


def batch_in_words(step: int, epoch: int, batch: int) -> str:
    """Name a batch to a person, who counts from one: ``step 2 (epoch 1, batch 2)``.

    Parameters
    ----------
    step
        Optimizer steps done before it.
    epoch, batch
        Its numbers in the trace, from zero.
    """
    return f"step {step + 1} (epoch {epoch + 1}, batch {batch + 1})"


def pack_sums(sums: Sequence[int]) -> str:
    """Shorten check sums of 64 bits to four characters each, and put them in a row."""
    short = (hashlib.blake2b(one.to_bytes(8, "little"), digest_size=_SUM_BYTES).digest() for one in sums)
    return base64.b64encode(b"".join(short)).decode("ascii")


def state_before(lines: Sequence[TraceLine], index: int) -> dict[str, str]:
    """Tell the check sum of every weight and optimizer slot before a batch, by name; empty if none is kept.

    Parameters
    ----------
    lines
        The trace.
    index
        Number of the batch's line.
    """
    packed = lines[index].state
    if packed is None:
        return {}
    sums = [packed[at : at + _SUM_CHARACTERS] for at in range(0, len(packed), _SUM_CHARACTERS)]
    earlier = (line.names for line in reversed(lines[: index + 1]))
    names = next((one for one in earlier if one is not None and len(one) == len(sums)), None)
    return dict(zip(names or [f"tensor {number}" for number in range(len(sums))], sums, strict=True))


def read_trace(path: Path) -> list[TraceLine]:
    """Read a trace; a torn last line is left out. Empty where there is no trace.

    Raises
    ------
    ValueError
        Another line than the last is no line of a trace; nor may the last hold values of other types.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found: list[TraceLine] = []
    for number, line in enumerate(lines, start=1):
        try:
            one = TraceLine(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number < len(lines):
                raise ValueError(f"{path.name}:{number}: it is no line of a trace ({error})") from error
            continue
        wrong = [name for name, value in vars(one).items() if not _has_its_type(name, value)]
        if wrong:
            raise ValueError(f"{path.name}:{number}: it is no line of a trace ({wrong[0]} has another type)")
        found.append(one)
    return found


def _has_its_type(name: str, value: object) -> bool:
    if name in _WHOLE:
        return type(value) is int
    if value is None:
        return name not in _ALWAYS
    if name == "tensors":
        return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())
    if name == "names":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str)


def find_parting(first: Sequence[TraceLine], second: Sequence[TraceLine]) -> Parting | None:
    """Find the first place where two traces are not the same; None where there is none."""
    agreed = before = 0
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        differing = next(_state_differences(first, second, index), None)
        if one.state is not None and other.state is not None and differing is None:
            agreed = before
        differing = differing or next(_differences(one, other), None)
        if differing is not None:
            return Parting(index, before, one.epoch, one.batch, *differing, agreed)
        before = one.step
        if one.weights is not None or one.tensors is not None:
            agreed = one.step
    if len(first) == len(second):
        return None
    index = min(len(first), len(second))
    beyond = max(first, second, key=len)[index]
    lengths = f"{len(first)} batches", f"{len(second)} batches"
    return Parting(index, before, beyond.epoch, beyond.batch, "length", *lengths, agreed)


def _state_differences(
    first: Sequence[TraceLine], second: Sequence[TraceLine], index: int
) -> Iterator[tuple[str, str, str]]:
    one, other = first[index], second[index]
    if one.state is None or other.state is None or (one.state, one.names) == (other.state, other.names):
        return
    yield from _named("before/", state_before(first, index), state_before(second, index))


def _differences(one: TraceLine, other: TraceLine) -> Iterator[tuple[str, str, str]]:
    for name in _COMPUTED:
        first, second = getattr(one, name), getattr(other, name)
        if first != second:
            yield name, str(first), str(second)
    yield from _named("", one.tensors or {}, other.tensors or {})


def _named(prefix: str, here: Mapping[str, str], there: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in (*here, *(name for name in there if name not in here)):
        if here.get(name) != there.get(name):
            yield f"{prefix}{name}", here.get(name, "absent"), there.get(name, "absent")
