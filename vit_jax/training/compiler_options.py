"""`config.xla_options` as what `Lowered.compile(compiler_options=...)` takes."""

from vit_jax.config.sections import Config

# Options of one backend are unknown to the compilers of the others.
_PREFIXES = {'tpu': ('xla_tpu_', 'xla_jf_'), 'gpu': ('xla_gpu_',), 'cpu': ('xla_cpu_',)}

# What `config.xla_options` may replace.
_DEFAULTS: dict[str, dict[str, str | bool]] = {'tpu': {
    # Products from this many MiB on whose operand or result is divided would become
    # chains of collective permutes. With parameters divided over all chips of a slice
    # that costs twice the HBM traffic: 40.6 against 28.6 ms for a step of S/16 on
    # v5e:4x4 with fsdp 16, by the compiler's estimates. So: never.
    'xla_jf_spmd_threshold_for_windowed_einsum_mib': '1000000'}}


def compiler_options(config: Config, platform: str) -> dict[str, str | bool] | None:
  """{name: value} of the options for a platform, None if there are none.

  `config.xla_options` come on top of our own defaults.

  Args:
    config: its `xla_options` are (name, value) pairs.
    platform: 'tpu', 'gpu' or 'cpu'; options named after another one, as
      'xla_tpu_...' is, are left out, so that a configuration that was tuned for a pod
      still runs on a laptop.
  """
  others = tuple(prefix for backend, prefixes in _PREFIXES.items()
                 if backend != platform for prefix in prefixes)
  options: dict[str, str | bool] = dict(_DEFAULTS.get(platform, {}))
  options |= {name: value for name, value in config.xla_options
              if not name.startswith(others)}
  return options or None
