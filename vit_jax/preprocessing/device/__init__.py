"""Preprocessing on the accelerator, inside the jitted step."""
