"""Orbax's handler of a training state, with checksums of its files."""

import dataclasses

import orbax.checkpoint as ocp

from vit_jax.checkpoints import integrity


class Handler(ocp.StandardCheckpointHandler):
  """Adds the list of `integrity` to a state before it is committed."""

  def finalize(self, directory):
    super().finalize(directory)
    integrity.seal(directory)


# Orbax finds the handler of an item by the type of its arguments.
@ocp.args.register_with_handler(Handler, for_save=True)
@dataclasses.dataclass
class Save(ocp.args.StandardSave):
  """Saves a state with `Handler`."""


@ocp.args.register_with_handler(Handler, for_restore=True)
@dataclasses.dataclass
class Restore(ocp.args.StandardRestore):
  """Restores a state with `Handler`."""
