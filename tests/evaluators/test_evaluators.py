"""Evaluators of a run: the same on every mesh, in training, and by name."""


import jax
import numpy as np
import pytest
import runs
import tensorflow_datasets as tfds
import tiny_jobs
from PIL import Image

from vit_jax import config as config_lib
from vit_jax.checkpoints.store import Store
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.data import tensorflow
from vit_jax.evaluators.features import FrozenFeatures
from vit_jax.evaluators.suite import open_suite
from vit_jax.runtime.errors import UserError
from vit_jax.training.loop import train
from vit_jax.training.reuse import Reuse
from vit_jax.training.trained_run import TrainedRun

EVALUATORS = (
    {'name': 'few', 'kind': 'fewshot', 'shots': (1, 5), 'seeds': 2},
    {'name': 'probe', 'kind': 'probe', 'l2': (1.0, 100.0), 'train_split': 'train[:200]',
     'every': 2},
    {'name': 'nn', 'kind': 'knn', 'batch_size': 24},
    {'name': 'own', 'test_split': 'test[50:93]'},
)
DATA = {'test_split': 'test[:93]'}


def _run(job):
  return _open(job).run(tiny_jobs.parameters(job))


def _open(job, class_names=tiny_jobs.CLASSES):
  sections = evaluator_settings.of_run(job.config)
  return open_suite(job, class_names, sections, Reuse())


@pytest.fixture(scope='module')
def on_one_device():
  return _run(tiny_jobs.make(EVALUATORS, DATA, devices=jax.devices()[:1]))


def test_names_of_the_results(on_one_device):
  assert list(on_one_device) == [
      'test/accuracy', 'test/loss', 'few/1shot', 'few/5shot', 'probe/accuracy',
      'probe/l2', 'probe/iterations', 'nn/accuracy', 'own/accuracy', 'own/loss']
  # Features of a random model still tell digits apart better than chance.
  assert on_one_device['few/5shot'] > 0.3 and on_one_device['nn/accuracy'] > 0.5


@pytest.mark.parametrize('fsdp', [1, 4, 8])
def test_eight_devices_measure_the_same(on_one_device, fsdp):
  measured = _run(tiny_jobs.make(EVALUATORS, DATA, fsdp=fsdp))
  assert list(measured) == list(on_one_device)
  for name, value in on_one_device.items():
    _assert_close(name, measured[name], value, rel=1e-5)


def _assert_close(name, value, expected, rel):
  """Losses are sums in another order; whole numbers and ratios of them are equal."""
  if name.endswith('/loss'):
    assert value == pytest.approx(expected, rel=rel), name
  elif name.endswith('/iterations'):
    assert abs(value - expected) <= 1, name
  else:
    assert value == expected, name


def test_every_nth_evaluation_and_shared_features(monkeypatch):
  passes = []
  extract = FrozenFeatures._extract
  monkeypatch.setattr(FrozenFeatures, '_extract', lambda self, params: (
      passes.append(self.input.split), extract(self, params))[1])
  sections = ({'name': 'nn', 'kind': 'knn'}, {'name': 'nn3', 'kind': 'knn', 'k': 3},
              {'name': 'rare', 'kind': 'knn', 'every': 3, 'k': 5})
  job = tiny_jobs.make(
      sections, {'test_split': 'test[:9]', 'train_split': 'train[:64]'})
  evaluators = _open(job)
  params = tiny_jobs.parameters(job)
  def names(number):
    return {name.split('/')[0] for name in evaluators.run(params, number)}
  assert names(1) == names(2) == {'test', 'nn', 'nn3'}
  assert names(3) == names(0) == {'test', 'nn', 'nn3', 'rare'}
  # Train and test split once per evaluation, for all that look at them.
  assert sorted(passes) == 4 * ['test[:9]'] + 4 * ['train[:64]']


@pytest.mark.parametrize('section, num_classes, message', [
    ({'name': 'own'}, 7, r'evaluators\[0\], has 10 classes, the head of the model 7'),
    ({'name': 'nn', 'kind': 'knn', 'k': 9, 'train_split': 'train[:8]'}, 10,
     r'k is 9, but digits\[train\[:8\]\] has 8'),
    ({'name': 'nn', 'kind': 'knn', 'layer': 'x'}, 10, 'pre_logits'),
    ({'name': 'nn', 'kind': 'knn', 'train_split': 'nosuch'}, 10, 'nosuch'),
    ({'name': 'nn', 'kind': 'knn', 'data': 'cifar1'}, 10, 'cifar10'),
])
def test_mistakes_are_found_when_they_open(section, num_classes, message):
  job = tiny_jobs.make((section,), {'test_split': 'test'}, num_classes)
  with pytest.raises(UserError, match=message):
    _open(job, tiny_jobs.CLASSES[:num_classes])


def test_classes_in_another_order():
  job = tiny_jobs.make(({'name': 'own'},))
  with pytest.raises(UserError, match="class 0 is '0' there and was '9' in training"):
    _open(job, tiny_jobs.CLASSES[::-1])


def _config(folder, *overrides):
  config = config_lib.load(runs.write_config(folder), [
      f'--config.evaluators={EVALUATORS!r}'])
  return config_lib.check(config_lib.apply_overrides(config, [
      '--config.evaluators[0].shots=(1,)', *overrides]))


@pytest.mark.slow
def test_in_training_and_on_the_trained_run(tmp_path):
  workdir = tmp_path / 'run'
  config = _config(
      tmp_path, '--config.total_steps=12', '--config.eval_every=4',
      '--config.checkpoint.every=4', '--config.checkpoint.keep=1',
      '--config.checkpoint.best_metric=few/1shot')
  result = train(config, str(workdir))
  rows = {row['step']: row for row in runs.metrics(workdir) if 'test/loss' in row}
  assert [step for step, row in rows.items() if 'few/1shot' in row] == [4, 8, 12]
  # The second evaluation, and the last one whatever its number.
  assert [step for step, row in rows.items() if 'probe/accuracy' in row] == [8, 12]
  assert rows[12] == {'step': 12, **result}
  store = Store(workdir, config.checkpoint, read_only=True)
  assert rows[store.best()]['few/1shot'] == max(r['few/1shot'] for r in rows.values())
  store.close()

  run = TrainedRun(str(workdir), step=12)
  measured = run.run_evaluators()
  assert list(measured) == [name for name in result if not name.startswith('test/')]
  for name, value in measured.items():
    # Here the parameters lie on another mesh.
    tolerance = 2 if name.endswith('/iterations') else 1e-5
    assert value == pytest.approx(result[name], abs=tolerance)


@pytest.mark.slow
def test_sets_of_labels_of_imagenet_real(tmp_path):
  """Accuracy over the images that have labels, any of which is right."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (19, 8, 8, 3), dtype=np.uint8)
  labels = [sorted(rng.choice(1000, i % 4, replace=False).tolist()) for i in range(19)]
  job = tiny_jobs.make(
      ({'name': 'real', 'data': 'imagenet2012_real', 'label_key': 'real_label',
        'max_labels': 4, 'test_split': 'validation', 'dir': str(tmp_path)},),
      {'test_split': ''}, num_classes=1000)
  params = tiny_jobs.parameters(job)
  logits, _ = job.model.apply({'params': params}, images / np.float32(127.5) - 1)
  top = np.asarray(logits).argmax(1)
  # A random model is never right by itself.
  for i in (2, 3, 7, 11):
    labels[i][-1] = int(top[i])
  _write_real(tmp_path, images, labels)
  names = tfds.builder('imagenet2012_real', data_dir=str(tmp_path)).info.features[
      'real_label'].names
  evaluators = _open(job, names)
  right = sum(top[i] in labels[i] for i in range(19))
  labelled = sum(bool(found) for found in labels)
  measured = evaluators.run(params)
  assert (right, labelled) == (4, 14)
  assert measured['real/accuracy'] == right / labelled
  assert measured['real/unlabelled_records'] == 5


def _write_real(folder, images, labels):
  """Lossless images, so that the test knows what the model sees."""
  tensorflow.load()
  tfds.disable_progress_bar()
  for i, image in enumerate(images):
    Image.fromarray(image).save(folder / f'{i}.png')
  builder = tfds.builder('imagenet2012_real', data_dir=str(folder))
  builder._split_generators = lambda dl_manager, **kw: {'validation': (
      (i, {'image': str(folder / f'{i}.png'), 'original_label': 0,
           'real_label': labels[i], 'file_name': f'{i}.png'})
      for i in range(len(images)))}
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      compute_stats=tfds.download.ComputeStatsMode.SKIP))


@pytest.mark.slow
def test_two_processes_and_the_command(tmp_path):
  config = runs.write_config(tmp_path)
  words = ('train', f'--config={config}', '--config.total_steps=4',
           '--config.data.test_split=test[:93]', f'--config.evaluators={EVALUATORS!r}')
  one, two = str(tmp_path / 'one'), str(tmp_path / 'two')
  runs.finish(runs.command(*words, f'--workdir={one}'))
  with runs.process_flags(2) as flags:
    processes = [runs.command(*words, f'--workdir={two}', *more, devices=2)
                 for more in flags]
    for process in processes:
      runs.finish(process)
  expected, found = runs.metrics(one)[-1], runs.metrics(two)[-1]
  assert list(found) == list(expected)
  for name, value in expected.items():
    _assert_close(name, found[name], value, rel=1e-4)

  out, _ = runs.finish(runs.command(
      'eval', f'--workdir={one}', '--evaluators=nn', '--json'))
  assert f'"nn/accuracy": {expected["nn/accuracy"]}' in out
  out, _ = runs.finish(runs.command(
      'eval', f'--workdir={one}', '--kind=knn', '--config.evaluators[0].k=20'))
  assert 'knn/accuracy' in out and 'nn/' not in out.replace('knn/', '')
  _, err = runs.finish(runs.command(
      'eval', f'--workdir={one}', '--evaluators=nm'), status=1)
  assert 'the run has few, probe, nn, own' in err
