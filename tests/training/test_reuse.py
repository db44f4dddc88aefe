"""Runs that share programs and data: fewer compilations, the same numbers."""

import runs

from vit_jax import config as config_lib
from vit_jax.data.decoded_splits import DecodedSplits
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training.loop import train
from vit_jax.training.reuse import Reuse

# Two runs of one program; everything that the program does not contain differs.
OTHER = ('--config.seed=5', '--config.total_steps=6',
         '--config.schedule.name=piecewise',
         '--config.optimizer.learning_rate=0.02', '--config.optimizer.weight_decay=0.3',
         "--config.data.train_split=train[:50%]", '--config.log_every=2')


def _config(folder, *overrides):
  return config_lib.load(
      runs.write_config(folder), ['--config.optimizer.weight_decay=0.1', *overrides])


class CountingPrograms(ProgramCache):
  """`built`: the kinds of the programs that were not there yet."""

  def __init__(self):
    super().__init__()
    self.built = []

  def get(self, program):
    if program not in self:
      self.built.append(type(program).__name__)
    return super().get(program)


class CountingSplits(DecodedSplits):
  """`decoded`: the splits that were not there yet."""

  def __init__(self):
    super().__init__()
    self.decoded = []

  def get(self, key, decode):
    def count():
      self.decoded.append(key.split)
      return decode()
    return super().get(key, count)


def test_second_run_compiles_nothing_and_measures_the_same(tmp_path):
  reuse = Reuse(CountingPrograms(), CountingSplits())
  built, decoded = reuse.programs.built, reuse.splits.decoded
  train(_config(tmp_path), str(tmp_path / 'first'), reuse)
  assert sorted(built) == ['EvalStep', 'InitStep', 'Setup', 'TrainStep']
  assert sorted(decoded) == ['test[:50]', 'train']
  del built[:], decoded[:]
  shared = train(_config(tmp_path, *OTHER), str(tmp_path / 'shared'), reuse)
  # The test split is kept, too; only the training split is another.
  assert not built and decoded == ['train[:50%]']
  alone = train(_config(tmp_path, *OTHER), str(tmp_path / 'alone'))
  assert shared == alone
  assert runs.losses(tmp_path / 'shared') == runs.losses(tmp_path / 'alone')
