"""What `eval` and `predict` have in common: a trained run, ready to be asked."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vit_jax.runtime import logs

if TYPE_CHECKING:
  from vit_jax.config import Config
  from vit_jax.training.trained_run import TrainedRun


def trained_run(args: argparse.Namespace, overrides: Sequence[str], *,
                one_device: bool = False, config: 'Config | None' = None
                ) -> 'TrainedRun':
  """The run in --workdir at --step.

  Args:
    args: parsed flags.
    overrides: `--config.*` words, applied to its settings.
    one_device: for work that is too small to be divided.
    config: its settings, if they have been read already.
  """
  from vit_jax import config as config_lib
  from vit_jax.training import workdir as workdir_lib
  config = config_lib.apply_overrides(
      config or workdir_lib.read_config(args.workdir), overrides)
  logs.quiet()
  import jax

  from vit_jax.runtime import compilation_cache
  from vit_jax.training.checks import check_run
  from vit_jax.training.trained_run import TrainedRun
  config = check_run(config)
  compilation_cache.enable()
  devices = jax.devices()[:1] if one_device else None
  return TrainedRun(args.workdir, config, args.step, devices)
