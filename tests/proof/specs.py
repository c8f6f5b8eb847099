"""Specs that are made to be attacked: a second or a few of training, with everything on that can go wrong."""

from __future__ import annotations

EVERYTHING = """\
name: everything
seed: 5
data:
  train:
    simulate:
      object: {size_px: 112}
      scan: {rows: 9, columns: 9}
  validation_fraction: 0.08
model: {gridsize: 2, object_big: false, n_filters_scale: 1, attention: false, probe_big: false}
training: {n_groups: 58, epochs: 3, batch_size: 1, lr_warmup_epochs: 0.5}
execution:
  scheduler: WarmupCosine
  accum_steps: 3
  num_workers: 2
  persistent_workers: true
  logger_backend: csv
checkpoints: {every_steps: 1, every_seconds: null}
products: {reconstruction: false}
"""
"""Three epochs of 58 batches: nineteen steps of three batches, and one of the last batch alone.

Its 174 batches take the smallest default network 11 s of a Zen 3 core, the proofs' own some 3 s.
"""

EVERYTHING_STEPS, EVERYTHING_STEPS_AN_EPOCH = 60, 20

SMALL = """\
name: small
seed: 5
data:
  train:
    simulate:
      object: {size_px: 96}
      scan: {rows: 6, columns: 6}
  validation_fraction: 0.1
model: {gridsize: 1, n_filters_scale: 1, attention: false, probe_big: false}
training: {n_groups: 7, epochs: 3, batch_size: 1, lr_warmup_epochs: 0.5}
execution:
  scheduler: WarmupCosine
  accum_steps: 2
  num_workers: 2
  persistent_workers: true
  logger_backend: csv
checkpoints: {every_steps: 1, every_seconds: null}
products: {reconstruction: false}
"""
"""Three epochs of seven batches: three steps of two batches, and one of the last batch alone."""

SMALL_STEPS = 12

OWN_NETWORK = ("model.object_big=false", "model.generator=tiny")
"""The network of ``tiny.py``, where pytest is started with ``-p tests.proof.tiny_line``."""
