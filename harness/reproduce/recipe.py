"""What a recipe says: where a result was published, what is run for it, and which figures are to come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from ptycho_torch.config import PositiveInt
from ptycho_torch.field_types import Demands
from ptycho_torch.layers import Place
from ptycho_torch.validation import Rule, frozen_config

__all__ = [
    "Arm",
    "ArmBlock",
    "Fast",
    "FastBlock",
    "Figure",
    "FigureBlock",
    "Override",
    "PublicationBlock",
    "Recipe",
    "RecipeBlock",
]

Text = Annotated[str, Demands(min_length=1, max_length=1024)]
Names = Annotated[tuple[Text, ...], Demands(strict=False, min_length=1)]
Seed = Annotated[int, Demands(ge=0, le=2**32 - 1)]


@frozen_config
class RecipeBlock:
    """The recipe itself.

    Parameters
    ----------
    name
        Its name, as a run's; the runs of its arms carry it.
    title
        What is reproduced, in a few words.
    """

    name: Annotated[str, Demands(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: Text


@frozen_config
class PublicationBlock:
    """Where the figures were published.

    Parameters
    ----------
    citation
        The publication, or the data and the program, as they are cited.
    url
        Its address.
    differs
        In what our runs differ from what was done there, one sentence each.
    """

    citation: Text
    url: Text
    differs: Annotated[tuple[Text, ...], Demands(strict=False)] = ()


@frozen_config
class ArmBlock:
    """One experiment: a spec, what is put over it, and the seeds that it is run with.

    Parameters
    ----------
    spec
        Path of the spec, from the recipe's folder on.
    title
        What the arm is, in a few words.
    seeds
        Seeds; each is a run.
    not_run
        Why it cannot be run; it is then only listed.
    """

    spec: Text
    title: Text
    not_run: Text | None = None
    seeds: Annotated[tuple[Seed, ...], Demands(strict=False, min_length=1)] = (42,)


def _says_when(
    within: float | None, at_least: float | None, at_most: float | None, not_comparable: str | None
) -> str | None:
    given = sum(bound is not None for bound in (within, at_least, at_most))
    if given == (0 if not_comparable else 1):
        return None
    if not_comparable:
        return "stands beside not_comparable, which says that nothing is compared: keep one of the two"
    return (
        "exactly one of within, at_least and at_most must say when the figure is reproduced, "
        "or not_comparable why it is only shown"
    )


@frozen_config(rules=(Rule(("within", "at_least", "at_most", "not_comparable"), _says_when),))
class FigureBlock:
    """One published figure, and when ours reproduces it.

    Parameters
    ----------
    arm, metric
        Whose figure is compared, and its name among a run's metrics.
    less
        Another arm, whose figure is subtracted first, seed by seed.
    published
        The published value.
    at
        Where in the source it stands.
    within
        Reproduced when the mean over our seeds is this near the published value.
    at_least, at_most
        Reproduced when that mean is not below, or not above, this value.
    not_comparable
        Why ours cannot be held against it; it is then shown only.
    """

    arm: Text
    metric: Text
    less: Text | None = None
    published: float
    at: Text
    within: Annotated[float, Demands(gt=0)] | None = None
    at_least: float | None = None
    at_most: float | None = None
    not_comparable: Text | None = None


@frozen_config
class FastBlock:
    """What ``--fast`` runs.

    Parameters
    ----------
    arms
        Those of the arms.
    num_seeds
        The first so many seeds of each.
    """

    arms: Names
    num_seeds: PositiveInt = 1


@dataclasses.dataclass(frozen=True)
class Override:
    """A value that is put over a spec: as ``--set`` takes it, and where in the recipe it stands."""

    text: str
    place: Place

    @property
    def key(self) -> str:
        """The dotted key."""
        return self.text.partition("=")[0]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One experiment of a recipe.

    Parameters
    ----------
    name, title, seeds, not_run
        As in :class:`ArmBlock`.
    spec
        Path of the spec.
    overrides
        What is put over it.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    spec: Path
    overrides: tuple[Override, ...] = ()
    not_run: str | None = None

    def sets(self, recipe: str, seed: int) -> tuple[str, ...]:
        """Return what ``--set`` would be given for the run with a seed."""
        own = (f"name={recipe}-{self.name}"[: len("name=") + 64], f"seed={seed}")
        return (*(one.text for one in self.overrides), *own)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published figure by its name; the rest as in :class:`FigureBlock`."""

    name: str
    told: FigureBlock


@dataclasses.dataclass(frozen=True)
class Fast:
    """What ``--fast`` runs: as in :class:`FastBlock`, with what it puts over the arms to shorten them."""

    arms: tuple[str, ...]
    num_seeds: int
    overrides: tuple[Override, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe.

    Parameters
    ----------
    path, text
        Its file, and that file verbatim.
    name, title, source
        As in :class:`RecipeBlock` and :class:`PublicationBlock`.
    arms, figures
        In the order of the file.
    fast
        What ``--fast`` runs.
    """

    path: Path
    text: str
    name: str
    title: str
    source: PublicationBlock
    arms: Mapping[str, Arm]
    figures: tuple[Figure, ...]
    fast: Fast

    def chosen(self, *, is_fast: bool) -> tuple[Arm, ...]:
        """Return the arms to run; fast, those of the fast row, with fewer seeds and what shortens them."""
        if not is_fast:
            return tuple(self.arms.values())
        arms = (self.arms[name] for name in self.fast.arms)
        return tuple(
            dataclasses.replace(
                arm,
                seeds=arm.seeds[: self.fast.num_seeds],
                overrides=(*arm.overrides, *self.fast.overrides),
            )
            for arm in arms
        )

    def shortened(self, *, is_fast: bool) -> str:
        """Say what makes a fast run another than the one the figures are for; empty where nothing does."""
        return ", ".join(one.text for one in self.fast.overrides) if is_fast else ""
