"""What to say where a device has too little memory for a run."""

from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError, first_line


def is_exhausted(error: Exception) -> bool:
  """Whether an error of JAX says that memory ran out."""
  return 'RESOURCE_EXHAUSTED' in str(error)


def advice(config: Config, devices: int, error: Exception) -> UserError:
  """The error of a run, with what makes it smaller; the cheapest comes first."""
  parts = config.accum_steps
  images = max(1, config.batch_size // (devices * parts))
  ways = [f'a smaller --config.batch_size (now {config.batch_size})']
  if images > 1:
    ways.insert(0, f'--config.accum_steps={2 * parts}: the same batch in more parts')
  if config.model.remat == 'none':
    ways.insert(1, '--config.model.remat=full: activations computed twice, not kept')
  if devices > 1:
    ways.append('--config.mesh.fsdp=-1: the state divided over all devices')
  return UserError(
      f'The memory of a device does not suffice ({first_line(error)[:200]}). Each of '
      f'{devices} device(s) processes {images} images at once. Ways to need less: '
      f'{"; ".join(ways)}. `vit_jax plan` says what a run needs.')
