"""A small recipe, and its pieces."""

from __future__ import annotations

from pathlib import Path

from harness.reproduce.reading import read_recipe
from harness.reproduce.recipe import Recipe

RECIPE = """\
name: small
title: A small thing
source: {citation: 'A. Author, 2020', url: 'https://example.org/paper', differs: [it is smaller]}
arms:
  one: {spec: spec.yaml, title: the first, seeds: [1, 2]}
  two: {spec: spec.yaml, title: the second, seeds: [1, 2], set: {training.epochs: 3}}
figures:
  met: {arm: one, metric: phase_correlation, published: 0.9, within: 0.05, at: 'Table 1, row 1'}
  missed: {arm: two, metric: phase_correlation, published: 0.99, at_least: 0.98, at: 'Table 1, row 2'}
fast: {arms: [one]}
"""


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "small.recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def recipe_in(folder: Path, text: str = RECIPE) -> Recipe:
    return read_recipe(write_recipe(folder, text))
