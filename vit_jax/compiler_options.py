"""`config.xla_options` as what `Lowered.compile(compiler_options=...)` takes."""

from vit_jax.errors import UserError
from vit_jax.sections import Config

# Options of one backend are unknown to the compilers of the others.
_BACKENDS = ('tpu', 'gpu', 'cpu')


def compiler_options(config: Config, platform: str) -> dict | None:
  """{name: value} of the options for a platform, None if there are none.

  Args:
    config: its `xla_options` are (name, value) pairs.
    platform: 'tpu', 'gpu' or 'cpu'; options named after another one, as
      'xla_tpu_...' is, are left out, so that a configuration that was tuned for a pod
      still runs on a laptop.
  """
  others = tuple(f'xla_{b}_' for b in _BACKENDS if b != platform)
  chosen = {name: value for name, value in config.xla_options
            if not name.startswith(others)}
  return chosen or None


def check(config: Config):
  """Raises UserError unless `config.xla_options` are pairs of texts."""
  for pair in config.xla_options:
    if (not isinstance(pair, tuple) or len(pair) != 2
        or not all(isinstance(x, str) and x for x in pair)):
      raise UserError(
          f'config.xla_options has {pair!r}; expected (name, value) pairs of texts '
          "such as (('xla_tpu_scoped_vmem_limit_kib', '65536'),).")
