"""Settings of the devices, the checkpoints and the start of a run."""

import dataclasses

from vit_jax.config.settings import Rule, at_least, setting


@dataclasses.dataclass(frozen=True)
class MeshSection:
  """Devices along each mesh axis; -1 takes what the other axis leaves."""
  data: int = setting(
      -1, 'Replicas of the state.', tuning='tunable', rule=Rule(
          lambda n: n == -1 or n >= 1, 'must be at least 1, or -1 for what is left'))
  fsdp: int = setting(
      0, 'Devices over which one replica is divided; 0: 1 for a state that is small '
      'beside the memory, else as few as suit the slice, see '
      'vit_jax/parallel/auto_mesh.py.', tuning='tunable', rule=Rule(
          lambda n: n >= -1, 'must be at least 1, 0 to choose, or -1 for what is left'))


@dataclasses.dataclass(frozen=True)
class CheckpointSection:
  """What is saved when, and what is kept."""
  every: int = setting(
      1000, 'Steps between checkpoints; the last step is always saved.',
      rule=at_least(1))
  keep: int = setting(
      2, 'How many of the newest checkpoints to keep.', rule=at_least(1))
  best_metric: str = setting(
      '', "Also keep the checkpoint that scores best on this metric, e.g. "
      "'test/accuracy'; '': none.")
  best_mode: str = setting(
      'max', "Whether higher ('max') or lower ('min') is better.",
      choices=('max', 'min'))


@dataclasses.dataclass(frozen=True)
class InitSection:
  """Where the first parameters come from, see docs/checkpoints.md."""
  checkpoint: str = setting(
      '', "A work directory, a checkpoint of any format, or 'augreg:B_16' for a "
      "published AugReg model; '': random.")
  augreg_bucket: str = setting(
      'gs://vit_models/augreg', 'Folder or URL of the AugReg files and their '
      'index.csv, such as a local mirror.')
  head: str = setting(
      'auto', "The checkpoint's head: 'auto' keeps one that fits and whose classes, as "
      "far as they are known, have the same names; 'keep', 'reset' (to zeros).",
      choices=('auto', 'keep', 'reset'))
  pre_logits: str = setting(
      'drop', "Its layer before the head, if the model has none: 'drop', or 'keep' (an "
      'error).', choices=('drop', 'keep'))
  position_resize: str = setting(
      'original', "How positions are resized to a new grid: 'original', 'hf', 'timm', "
      "'timm_npz', or 'auto' for that of the code base the checkpoint comes from.")
  any_architecture: bool = setting(
      False, "Read timm's architectures that were never compared with ours, too.")
  averaged: bool = setting(
      True, 'Of a file with raw and averaged weights, read the averaged ones.')
  position_grid: tuple = setting(
      (), "(height, width) of the checkpoint's grid of patches, where the file can't "
      'say.', size=True)


@dataclasses.dataclass(frozen=True)
class ProfileSection:
  """A profiler trace under WORKDIR/profile; `steps` = 0 takes none."""
  start: int = setting(
      10, 'Steps before it.', rule=at_least(0), per_process=True)
  steps: int = setting(
      0, 'How many steps it covers.', rule=at_least(0), per_process=True)
