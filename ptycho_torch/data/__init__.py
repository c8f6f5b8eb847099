"""Scans become batches: which frames form a group, how they are scaled, in which order they come."""
