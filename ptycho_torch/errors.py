"""Errors that the science part raises for a user's mistake; each message is one sentence."""

from __future__ import annotations


class PtychoError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(PtychoError, ValueError):
    """A configuration value is unknown, illegal or contradicts another one.

    Parameters
    ----------
    problems
        One sentence per problem; all problems of a configuration are reported together.
    keys
        The configuration key of each problem, in the same order (empty where there is none).
    places
        Where each problem stands, as ``file:line:column`` (empty where it stands in no file).
    """

    def __init__(
        self, problems: list[str], keys: list[str] | None = None, places: list[str] | None = None
    ) -> None:
        self.problems = list(problems)
        self.keys = list(keys) if keys is not None else [""] * len(problems)
        self.places = list(places) if places is not None else [""] * len(problems)
        pairs = zip(self.places, self.problems, strict=True)
        super().__init__("\n".join(f"{place} {problem}" if place else problem for place, problem in pairs))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str], list[str], list[str]]]:
        return type(self), (self.problems, self.keys, self.places)


class DataError(PtychoError, ValueError):
    """A data file breaks the data contract."""


class DataFileNotFoundError(DataError, FileNotFoundError):
    """A data or model file is not where it was said to be."""


class NoArchiveError(DataError):
    """What should be an NPZ archive is a file of another kind."""


class NotRunnableError(PtychoError, RuntimeError):
    """What was asked for is absent here: an accelerator, a package, a strategy."""


class ExactnessError(PtychoError, RuntimeError):
    """The process does not run under the exactness profile that was asked for."""


class CheckpointError(PtychoError, RuntimeError):
    """A checkpoint is torn, altered or does not belong to this run."""
