"""One VTAB task from tiny data in its true format to an evaluation, checked on the way.

Used by the tests and by benchmarks/vtab_tasks.py. What is compared with comes from
TFDS's own reader, from formulas written anew here, and from the model one image at a
time.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
import tiny_tfds

import vit_jax
from vit_jax import config as config_lib
from vit_jax.config.sections import DataSection
from vit_jax.data import open_input
from vit_jax.sweep import vtab
from vit_jax.sweep.vtab import VtabTask
from vit_jax.training.debug_form import debug_form
from vit_jax.training.loop import train
from vit_jax.training.reuse import Reuse

CONFIG = pathlib.Path(__file__).parents[2] / 'configs/vtab.py'
_TRAIN_EXAMPLES, _OTHER_EXAMPLES = 40, 20


@dataclasses.dataclass(frozen=True)
class Measured:
  """What a run of one task gave, beside what it should have given."""
  classes: int
  losses: list  # of the training steps
  train_labels: np.ndarray
  expected_train_labels: np.ndarray
  test_labels: np.ndarray
  expected_test_labels: np.ndarray
  accuracy: float
  loss: float
  # One image at a time, from the checkpoint.
  expected_accuracy: float
  expected_loss: float


def write_data(task: VtabTask, data_dir: str | pathlib.Path) -> dict:
  """Writes the task's data set unless it is there; {split: number of examples}."""
  sizes = {split: _TRAIN_EXAMPLES if split == 'train' else _OTHER_EXAMPLES
           for split in vtab.SIZES[task.data_set]}
  if not tfds.builder(task.builder, data_dir=str(data_dir)).info.splits:
    tiny_tfds.write(task.builder, data_dir, sizes)
  return sizes


def measure(
    name: str, data_dir: str | pathlib.Path, workdir: str | pathlib.Path,
    reuse: Reuse | None = None, arg: str = '') -> Measured:
  """Trains and evaluates a task in its debug form on tiny data.

  Args:
    name: of the task.
    data_dir: where tiny data sets are, or are to be written.
    workdir: of the run.
    reuse: shared by several runs, see `vit_jax.training.reuse`.
    arg: further words of the config's argument, such as 'lightweight'.
  """
  task = vtab.TASKS[name]
  sizes = write_data(task, data_dir)
  recipe = config_lib.load(f'{CONFIG}:{name},{arg}')
  splits = task.overrides('final', sizes=sizes)
  config = debug_form(config_lib.with_values(recipe, {
      'data.dir': str(data_dir), 'data.train_split': splits['data.train_split'],
      'data.test_split': splits['data.test_split']}))
  measured = train(config, str(workdir), reuse)
  rows = [json.loads(line) for line in
          (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()]
  images, expected_test = _by_tfds(task, config.data, config.data.test_split)
  logits = _one_by_one(workdir, images)
  return Measured(
      classes=open_input(config.data, 'train[:1]', train=False).num_classes,
      losses=[row['train/loss'] for row in rows if 'train/loss' in row],
      train_labels=_by_pipeline(config.data, config.data.train_split),
      expected_train_labels=_by_tfds(task, config.data, config.data.train_split)[1],
      test_labels=_by_pipeline(config.data, config.data.test_split),
      expected_test_labels=expected_test,
      accuracy=measured['test/accuracy'], loss=measured['test/loss'],
      expected_accuracy=float((logits.argmax(-1) == expected_test).mean()),
      expected_loss=float(_cross_entropy(logits, expected_test).mean()))


def _by_pipeline(data: DataSection, split: str) -> np.ndarray:
  """Labels of all examples that an evaluation sees, in its order."""
  batches = open_input(data, split, train=False).start().eval_batches(8, np.arange(8))
  return np.concatenate([batch['label'][batch['mask']] for batch in batches])


def _by_tfds(
    task: VtabTask, data: DataSection, split: str) -> tuple[np.ndarray, np.ndarray]:
  """(float images of the model's input, labels) of TFDS's own reader."""
  builder = tfds.builder(task.builder, data_dir=data.dir)
  images, labels = [], []
  # One slice after the other, not interleaved.
  in_order = tfds.ReadConfig(interleave_cycle_length=1)
  # TFDS wraps this method in a way that hides its arguments.
  examples = builder.as_dataset(
      split=split,  # pyright: ignore[reportCallIssue]
      read_config=in_order)
  for example in examples:
    labels.append(_label(task.name, example))
    image = tf.cast(example['image'], tf.float32)
    if task.name.startswith('dsprites'):
      image *= 255.0
    if image.shape[-1] == 1:
      image = tf.repeat(image, 3, axis=-1)
    images.append(tf.image.resize(image, data.image_size) / 127.5 - 1.0)
  return np.stack(images), np.array(labels)


def _label(name: str, example: Mapping[str, Any]) -> int:
  """The benchmark's label of a record, by other means than the project's rules."""
  if name == 'clevr_count':
    return len(example['objects']['size']) - 3
  if name == 'clevr_distance':
    nearest = min(xyz[2] for xyz in example['objects']['pixel_coords'].numpy())
    return sum(nearest > limit for limit in (8, 8.5, 9, 9.5, 10))
  if name == 'kitti_distance':
    objects = example['objects']
    z = [place[2] for kind, place in zip(
        objects['type'].numpy(), objects['location'].numpy(), strict=True)
        if kind in (0, 1, 2)]
    return sum(min(z, default=1000.0) > limit for limit in (8, 20, 999))
  if name == 'dsprites_location':
    return int(example['label_x_position']) // 2
  if name == 'dsprites_orientation':
    return 2 * int(example['label_orientation']) // 5
  if name.startswith('smallnorb'):
    return int(example[f'label_{name.removeprefix("smallnorb_")}'])
  return int(example['label'])


def _one_by_one(workdir: str | pathlib.Path, images: np.ndarray) -> np.ndarray:
  model, variables = vit_jax.load(str(workdir))
  return np.concatenate([
      np.asarray(model.apply(variables, image[None], train=False)[0])
      for image in images])


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  logits = np.asarray(logits, np.float64)
  largest = logits.max(-1)
  total = np.log(np.exp(logits - largest[:, None]).sum(-1)) + largest
  return total - logits[np.arange(len(labels)), labels]
