"""Checkpoints of other code bases: one file each, joined by `table`."""
