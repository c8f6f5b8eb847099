"""Values of a spec that are given on the command line: ``--set`` and ``--device``, each with its place."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import Problem, SpecError, UserError

if TYPE_CHECKING:
    from harness.spec_check import SpecReader

__all__ = ["DEVICE_OPTION", "SET_OPTION", "WHOLE_KEYS", "read_options"]

SET_OPTION, DEVICE_OPTION = "--set", "--device"
"""What stands for the file in the place of an override; its line is the option's number."""

WHOLE_KEYS = ("data.", "exactness.")
"""How keys begin that no block is put before."""


def _whole_key(key: str, block: str) -> str:
    from harness.spec_check import resolve_flat_key

    if block:
        return key if key.startswith(WHOLE_KEYS) else f"{block}.{key}"
    return resolve_flat_key(key)


def read_options(
    sets: Sequence[str], device: str | None = None, block: str = ""
) -> tuple[SpecReader, list[Problem]]:
    """Read what ``--set`` and ``--device`` give.

    Parameters
    ----------
    sets, device, block
        As for :func:`harness.spec.read_spec`.

    Returns
    -------
    What is given, and what is wrong with its text; what is wrong with its values stands in the reader.

    Raises
    ------
    UserError
        There is no such device.
    """
    from harness.spec_check import SpecReader
    from harness.yaml_loader import load_yaml
    from harness.yaml_nodes import Entry, MappingNode
    from ptycho_torch.layers import Place

    merged, problems = SpecReader(), []
    for number, option in enumerate(sets, start=1):
        key, separator, text = option.partition("=")
        place = Place(SET_OPTION, number, 1)
        if not separator or not key.strip():
            problems.append(Problem("write --set key=value (training.epochs=20)", place, source_line=option))
            continue
        try:
            node, found = load_yaml(
                text.encode("utf-8", "surrogateescape") or b"~", SET_OPTION, line=number, column=len(key) + 2
            )
        except SpecError as error:
            problems += [dataclasses.replace(problem, source_line=option) for problem in error.problems]
            continue
        problems += [dataclasses.replace(problem, source_line=option) for problem in found]
        for part in reversed(_whole_key(key.strip(), block).split(".")):
            node = MappingNode((Entry(part, place, node),), place)
        one = SpecReader()
        one.read(node)  # type: ignore[arg-type]
        problems += one.problems
        merged.leaves.update(one.leaves)  # the last of two equal options wins, as on any command line
        merged.blocks.update(one.blocks)
        merged.keys.update(one.keys)
    _read_device(device, merged)
    return merged, problems


def _read_device(device: str | None, given: SpecReader) -> None:
    from ptycho_torch.layers import Place, Value

    if device is None:
        return
    match = re.fullmatch("(cpu|cuda)(?::([0-9]{1,4}))?", device)
    if match is None:
        raise UserError(
            f"--device is {device!r}: write cpu or cuda; behind a colon stands how many, not which"
        )
    values = {"execution.accelerator": Value(match[1], Place(DEVICE_OPTION, 1, 1))}
    if match[2]:
        values["execution.n_devices"] = Value(int(match[2]), Place(DEVICE_OPTION, 1, match.start(2) + 1))
    given.leaves.update(values)
