"""The host side of a run: from a spec on disk to a manifest, without ever importing torch."""
