"""An objective and evaluators of the user's own, through the commands."""

import textwrap

import pytest
import runs

from vit_jax.cli import main as main_module
from vit_jax.evaluators.evaluator import Evaluator
from vit_jax.objectives.objective import Objective

pytestmark = pytest.mark.slow

# Learns the mean colour of an image from its pixels, without a label.
COLOURS = textwrap.dedent('''
    import dataclasses

    import jax.numpy as jnp
    import numpy as np

    from vit_jax.preprocessing.device import augment
    from vit_jax.training.programs import EvalStep


    @dataclasses.dataclass(frozen=True)
    class MeanColour:
      config: object
      model: object
      num_classes: int
      remaining: object

      shown = {'rmse': '.2f', 'loss': '.3e'}
      metrics = {'distance': 'min', 'brightness': 'max'}
      labels = ('none',)

      @staticmethod
      def check(config):
        pass

      @staticmethod
      def num_outputs(config, num_classes):
        return 3

      def prepare(self, batch, key):
        data = self.config.data
        return augment.train_images(
            batch['image'], key, self.remaining, data.image_size, data.value_range)

      def _errors(self, params, images, **how):
        found, _ = self.model.apply({'params': params}, images, **how)
        return jnp.square(found - images.mean((1, 2))).mean(-1)

      def loss(self, params, examples, key):
        loss = self._errors(params, examples, train=True, rngs={'dropout': key}).mean()
        return loss, {'rmse': jnp.sqrt(loss)}

      def eval_step(self, params, batch):
        data, mask = self.config.data, batch['mask']
        images = augment.eval_images(
            batch['image'], self.remaining, data.image_size, data.value_range)
        errors = self._errors(params, images, train=False)
        return {'seen': mask.sum(), 'errors': jnp.where(mask, errors, 0).sum(),
                'light': jnp.where(mask, images.mean((1, 2, 3)), 0).sum()}

      def summarise(self, sums, split):
        return {'distance': float(sums['errors'] / sums['seen']),
                'brightness': float(sums['light'] / sums['seen']), 'extra': 1.0}


    @dataclasses.dataclass(frozen=True)
    class Spread:
      section: object
      train: object
      test: object
      key: str

      on_features = True

      @staticmethod
      def metrics(config, section):
        return {'deviation': 'max'}

      def run(self, params):
        x = self.test.of(params).x
        return {'deviation': float(x.std(0).mean()), 'images': float(len(x))}


    @dataclasses.dataclass(frozen=True)
    class Images:
      section: object
      job: object
      test: object
      programs: object

      on_features = False

      @staticmethod
      def metrics(config, section):
        return {}

      def run(self, params):
        split = self.test.input
        step = self.programs.get(EvalStep(
            self.job.setup, split.remaining, split.stored_shape, split.label_shape,
            self.test.batch_size))
        return {'images': float(sum(
            sums['seen'] for sums in self.test.outputs(step, params)))}
''')
EVALUATORS = ({'name': 'spread', 'kind': 'colours:Spread', 'train_split': 'train[:9]'},
              {'name': 'more', 'kind': 'colours:Images', 'test_split': 'test[:33]'},
              {'name': 'head', 'test_split': 'test[:7]', 'every': 2})


@pytest.fixture(scope='module')
def colours(tmp_path_factory):
  """The folder of a module `colours` that can be imported, and of a run with it."""
  folder = tmp_path_factory.mktemp('own')
  (folder / 'colours.py').write_text(COLOURS)
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(folder)
    yield folder


@pytest.fixture(scope='module')
def trained(colours):
  status = main_module.main([
      'train', f'--config={runs.write_config(colours)}', f'--workdir={colours}/run',
      '--config.objective=colours:MeanColour', f'--config.evaluators={EVALUATORS!r}',
      '--config.data.val_split=train[:20]', '--config.data.max_labels=0',
      '--config.checkpoint.best_metric=val/distance',
      '--config.checkpoint.best_mode=min'])
  assert status == 0
  return colours / 'run'


def test_what_is_measured(trained):
  rows = runs.metrics(trained)
  assert {'train/loss', 'train/rmse', 'train/grad_norm'} <= rows[0].keys()
  assert 'train/accuracy' not in rows[0]
  for row in rows:
    if 'train/loss' in row:
      assert row['train/rmse'] == pytest.approx(row['train/loss']**.5, rel=1e-5)
  assert [name for name in rows[-1] if not name.startswith('train/')] == [
      'step', 'val/distance', 'val/brightness', 'val/extra', 'test/distance',
      'test/brightness', 'test/extra', 'spread/deviation', 'spread/images',
      'more/images', 'head/distance', 'head/brightness', 'head/extra']
  assert rows[-1]['spread/images'] == 50 and rows[-1]['more/images'] == 33
  first = next(row for row in rows if 'val/distance' in row)
  # It has learnt something, and not every evaluator was due in the middle.
  assert rows[-1]['val/distance'] < first['val/distance']
  assert 'spread/deviation' in first and 'head/distance' not in first


def test_the_progress_line_and_the_summary(trained, capsys, colours):
  again = colours / 'again'
  assert main_module.main([
      'train', f'--config={runs.write_config(colours)}', f'--workdir={again}',
      '--config.objective=colours:MeanColour', '--config.eval_every=1',
      '--config.total_steps=2', '--config.checkpoint.every=1',
      '--config.checkpoint.best_metric=test/brightness']) == 0
  out = capsys.readouterr().out
  line = next(line for line in out.splitlines() if line.startswith('step 2/2'))
  row = next(row for row in runs.metrics(again)[::-1] if 'train/rmse' in row)
  assert (f'images/s  rmse {row["train/rmse"]:.2f}  loss {row["train/loss"]:.3e}  0:00 '
          'left') in line
  assert 'accuracy' not in out and 'by test/brightness' in out


def test_evaluation_and_prediction_of_the_run(trained, capsys):
  expected = runs.metrics(trained)[-1]
  assert main_module.main(['eval', f'--workdir={trained}', '--step=10']) == 0
  out = capsys.readouterr().out
  assert f'distance {expected["test/distance"]:.4f}' in out
  assert f'spread/deviation {expected["spread/deviation"]:.4f}' in out
  assert main_module.main(
      ['eval', f'--workdir={trained}', '--kind=colours:Spread', '--json']) == 0
  assert '"Spread/deviation": ' in capsys.readouterr().out
  assert main_module.main(['predict', f'--workdir={trained}', 'image.png']) == 1
  assert 'does not predict the classes' in capsys.readouterr().err


@pytest.mark.parametrize('override, message', [
    ('--config.checkpoint.best_metric=test/accuracy',
     'measures test/distance, test/brightness.'),
    ('--config.objective=colours:MeanColor', "no attribute 'MeanColor'"),
    ('--config.objective=colors:MeanColour', "No module named 'colors'"),
    ('--config.objective=colours:Spread', 'which lacks shown, labels, check'),
])
def test_mistakes_end_the_command_before_anything_starts(
    colours, capsys, override, message):
  words = [f'--config={runs.write_config(colours)}',
           '--config.objective=colours:MeanColour', override]
  for command in ('train', 'config', 'plan'):
    more = {'train': [f'--workdir={colours}/none'], 'config': [],
            'plan': ['--topology=v5e:2x2', '--analytic']}[command]
    for debug in ([], ['--debug']):
      assert main_module.main([command, *words, *more, *debug]) in (1, 2)
      assert message in capsys.readouterr().err
  assert not (colours / 'none').exists()


def test_the_protocols_say_what_has_to_be_there(colours):
  import colours as own
  for protocol, cls in ((Objective, own.MeanColour), (Evaluator, own.Spread),
                        (Evaluator, own.Images)):
    for name in (*protocol.__annotations__, *vars(protocol)):
      assert name.startswith('_') or hasattr(cls, name)
