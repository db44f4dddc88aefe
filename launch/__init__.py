"""From one command line to the processes of a run, on whatever starts them.

Runs from a clone: `python -m launch <local|slurm|tpu-vm|gke> --help`. Every engine
ends in the same `vit_jax train` or `vit_jax sweep`; see docs/launch.md.
"""
