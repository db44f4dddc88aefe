"""Classes of the data against sets of the model's, on confusions made by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_jobs

from vit_jax.config import evaluators as evaluator_settings
from vit_jax.evaluators import label_map
from vit_jax.evaluators.suite import open_suite
from vit_jax.runtime.errors import UserError
from vit_jax.training.reuse import Reuse

# Of 8 classes of the model: 'chair' is 0 or 1, 'cup' is 4, 'tower' is none of them.
MAP = ((0, 1), (4,), ())
CHAIR, CUP, TOWER = range(3)


def order(*classes):
  """Logits that rank these classes first, then the others by number."""
  rest = [c for c in range(8) if c not in classes]
  logits = np.zeros(8, np.float32)
  logits[[*classes, *rest]] = np.arange(8, 0, -1)
  return logits


# (logits, label, right, right in the top 5, and both among classes 0, 1 and 4 alone).
CASES = [
    (order(1), CHAIR, 1, 1, 1, 1),
    (order(7, 0), CHAIR, 0, 1, 1, 1),  # 7 is no class of the map
    (order(4, 7), CHAIR, 0, 1, 0, 1),
    (order(7, 6, 5, 3, 2, 4), CUP, 0, 0, 1, 1),
    (order(0, 1), CUP, 0, 1, 0, 1),
]


@pytest.mark.parametrize('restricted', [False, True])
def test_confusions_by_hand(restricted):
  logits = np.stack([*(case[0] for case in CASES), order(7), order(0)])
  # An image of a class without any counterpart, and padding.
  labels = np.array([*(case[1] for case in CASES), TOWER, CHAIR])
  mask = np.array([True] * 6 + [False])
  first = 4 if restricted else 2
  expected = {'top1': sum(case[first] for case in CASES),
              'top5': sum(case[first + 1] for case in CASES), 'count': 5}
  for given in (labels, labels[:, None]):
    sums = label_map.score(
        jnp.asarray(logits), jnp.asarray(given), mask, MAP, restricted)
    assert {name: int(value) for name, value in sums.items()} == expected


def test_any_of_several_labels_is_right():
  logits = jnp.asarray(np.stack([order(4), order(1), order(7), order(4)]))
  labels = jnp.array([[CHAIR, CUP, -1], [CUP, TOWER, -1], [TOWER, -1, -1], [-1] * 3])
  sums = label_map.score(logits, labels, np.ones(4, bool), MAP, False)
  assert {k: int(v) for k, v in sums.items()} == {'top1': 1, 'top5': 2, 'count': 2}


@pytest.mark.slow
def test_a_run_on_digits(tmp_path):
  """Odd digits as classes 0 to 2 of the model, '9' as none."""
  path = tmp_path / 'map.json'
  path.write_text(json.dumps({'1': [0], '3': [0, 1], '5': [2], '7': [1]}))
  job = tiny_jobs.make(({'name': 'odd', 'kind': 'label_map', 'label_map': str(path)},),
                       {'test_split': 'test[:93]'}, num_classes=7)
  params = tiny_jobs.parameters(job)
  sections = evaluator_settings.of_run(job.config)
  suite = open_suite(job, [str(c) for c in range(7)], sections[1:], Reuse())
  measured = suite.run(params)
  test = suite.evaluators[0][1].test
  objective = job.setup.objective(test.input.remaining)
  sums = dict.fromkeys(('top1', 'top5', 'count'), 0)
  right = {1: {0}, 3: {0, 1}, 5: {2}, 7: {1}}
  for out in test.outputs(lambda params, batch: {
      **batch, 'top': jax.lax.top_k(objective.logits(params, batch['image']), 5)[1]},
      params):
    for top, label, there in zip(out['top'], out['label'], out['mask'], strict=True):
      if there and int(label) in right:
        sums['count'] += 1
        sums['top1'] += int(top[0]) in right[int(label)]
        sums['top5'] += bool(right[int(label)] & set(top.tolist()))
  assert measured == {
      'odd/accuracy': sums['top1'] / sums['count'],
      'odd/top5_accuracy': sums['top5'] / sums['count'],
      'odd/unmapped_records': 93 - sums['count']}


@pytest.mark.parametrize('text, match', [
    ('{', 'Cannot read the label map'),
    ('[1]', 'holds a list. Expected'),
    ('{"chairs": [1]}', "no class of the data. Did you mean 'chair'"),
    ('{"chair": [8]}', 'numbers from 0 to 7'),
    ('{"chair": 3}', 'numbers from 0 to 7'),
])
def test_files_that_are_no_maps(text, match, tmp_path):
  path = tmp_path / 'map.json'
  path.write_text(text)
  with pytest.raises(UserError, match=match):
    label_map.read(str(path), ['chair', 'cup'], 8)


@pytest.mark.parametrize('section', [
    {'name': 'x', 'kind': 'label_map'}, {'name': 'x', 'label_map': 'a.json'}])
def test_a_map_belongs_to_its_kind(section):
  with pytest.raises(UserError, match="kind 'label_map', and no other"):
    tiny_jobs.make((section,))
