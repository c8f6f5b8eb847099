"""``harness simulate``: a simulated scan as a file or again from its record, and what to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.called import called, shown
from harness.errors import ExitCode
from harness.given import folders_for_data
from harness.options import data_dir_option

if TYPE_CHECKING:
    from harness.executors.base import Executor

__all__ = ["simulate_command"]


@click.command("simulate", short_help="Simulate a scan into a file, or make one again from its record.")
@click.argument("name", metavar="[SPEC_OR_NAME]", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The .npz to write; its record stands beside it."
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a key of `simulate`: probe.kind=disk."
)
@click.option(
    "--role",
    type=click.Choice(["train", "test"]),
    default="train",
    help="Which scan of a spec; train if not said.",
)
@click.option("--verify", "is_check", is_flag=True, help="Make a recorded scan again and compare its bits.")
@click.option("--list", "is_list", is_flag=True, help="List objects, probes and scans with their options.")
@data_dir_option
def simulate_command(
    name: str | None,
    output: Path | None,
    sets: tuple[str, ...],
    role: str,
    is_check: bool,
    is_list: bool,
    data_dirs: tuple[Path, ...],
) -> ExitCode:
    """Simulate a scan into an NPZ file, frame by frame, with a record of every parameter beside it.

    SPEC_OR_NAME is a run spec with data.train.simulate, an object's name (--list shows them), or the .json
    that stands beside a scan that was simulated before, from which it is made again bit by bit.
    """
    if is_list:
        for line in _choices():
            click.echo(line)
        return ExitCode.OK
    if name is None:
        raise click.UsageError("name a spec, an object or a record; --list shows the objects")
    if is_check == (output is not None) or (is_check and sets):
        raise click.UsageError("give either -o FILE.npz, or --verify with a record and nothing else")
    from harness.executors.local import LocalExecutor

    if is_check:
        return _verify(Path(name), folders_for_data(data_dirs), LocalExecutor())
    from harness.simulate import make_scan, order_of

    executor = LocalExecutor()
    order = order_of(name, role, sets, folders_for_data(data_dirs), executor)
    record, beside = make_scan(order, Path(output or ""), executor)
    frames, side, _ = record.shape
    click.echo(
        f"{'wrote':<11}{output}: {frames} frames of {side} x {side}, {record.num_modes} probe mode(s), "
        f"{record.photons_per_frame:.6g} photons a frame"
    )
    click.echo(f"{'sha256':<11}{record.sha256}")
    click.echo(f"{'record':<11}{shown(beside)}; next: {called('new', Path(output or ''))}")
    return ExitCode.OK


def _verify(path: Path, folders: tuple[Path, ...], executor: Executor) -> ExitCode:
    from harness.simulate import differences_of_makers, make_scan_again

    recorded, again = make_scan_again(path, folders, executor)
    if recorded.sha256 == again.sha256:
        said = f"bitwise: {recorded.file} comes out with the recorded sha256 {again.sha256}"
        click.echo(f"{'verdict':<11}{said}")
        return ExitCode.OK
    unexplained = "neither code nor packages: the record was altered, or the processor is another"
    causes = ", ".join(differences_of_makers(recorded, again)) or unexplained
    click.echo(f"{'verdict':<11}differs: {recorded.sha256} is recorded, {again.sha256} comes out")
    click.echo(f"{'differing':<11}{causes}")
    return ExitCode.DIFFERS


def _choices() -> Iterator[str]:
    import dataclasses

    from ptycho_torch.simulate_config import KINDS, DetectorConfig, SimulateConfig

    def lines(name: str, block: type) -> Iterator[str]:
        plain = (field for field in dataclasses.fields(block) if field.name != "kind")
        yield f"  {name:<15}{(block.__doc__ or '').strip().splitlines()[0]}"
        yield f"  {'':<15}" + ", ".join(filter(None, map(option, plain)))

    def option(field: dataclasses.Field[Any]) -> str:
        if field.default is not dataclasses.MISSING:
            return f"{field.name}={'null' if field.default is None else field.default}"
        return "" if field.default_factory is not dataclasses.MISSING else f"{field.name}=(needed)"

    for ingredient, kinds in KINDS.items():
        yield f"{ingredient}: {{kind: ...}}"
        for kind, block in kinds.items():
            yield from lines(kind, block)
    yield from lines("detector", DetectorConfig)
    yield from lines("simulate", SimulateConfig)
