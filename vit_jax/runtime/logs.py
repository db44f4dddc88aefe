"""Messages of libraries that would hide ours."""

import logging


def quiet() -> None:
  """Errors alone: Orbax, TFDS and CLU log every step they take at INFO and WARNING."""
  from absl import logging as absl_logging
  absl_logging.set_verbosity(absl_logging.ERROR)
  logging.getLogger('jax').setLevel(logging.ERROR)
