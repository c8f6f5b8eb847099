"""Everything that makes bits repeat: keyed randomness, order, digests, checkpoint files, profiles."""
