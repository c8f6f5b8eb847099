"""Proofs: a promise attacked at every point there is. `make proof` runs them."""
