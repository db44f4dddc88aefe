"""Which example stands where."""

import threading

import numpy as np
import pytest

from vit_jax.data import order


def test_every_epoch_holds_every_example_once():
  examples = order.GlobalOrder(17, seed=3)
  epochs = examples.indices(np.arange(5 * 17)).reshape(5, 17)
  for epoch in epochs:
    assert sorted(epoch) == list(range(17))
  assert len({tuple(epoch) for epoch in epochs}) == 5


def test_order_depends_on_seed_and_position_alone():
  positions = np.array([3, 99, 40, 3, 16, 17])
  found = order.GlobalOrder(17, seed=1).indices(positions)
  one_by_one = [order.GlobalOrder(17, seed=1).indices(np.array([p]))[0]
                for p in positions]
  assert found.tolist() == one_by_one
  same = order.GlobalOrder(17, seed=np.uint32(1)).indices(positions)
  assert found.tolist() == same.tolist()
  assert found.tolist() != order.GlobalOrder(17, seed=2).indices(positions).tolist()


def test_the_next_epoch_is_made_ahead(monkeypatch):
  made = []
  def note(n, seed, epoch):
    made.append((epoch, threading.current_thread().name))
    return np.arange(n)
  monkeypatch.setattr(order, 'permutation', note)
  monkeypatch.setattr(order, '_SLOW', 1)
  examples = order.GlobalOrder(17, seed=0)
  for epoch in (3, 4, 4):
    assert examples.indices(np.arange(17) + 17 * epoch).tolist() == list(range(17))
  examples.indices([6 * 17 - 1])
  assert sorted(epoch for epoch, _ in made) in ([3, 4, 5], [3, 4, 5, 6])
  assert {name for _, name in made} == {'vit_jax order'}


def test_permutation_stays_what_it_was():
  # A checkpoint is resumed by later versions, too; these values must never change.
  assert order.permutation(8, seed=0, epoch=0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
  assert order.permutation(1, seed=2**63, epoch=7).tolist() == [0]


@pytest.mark.parametrize('n', [1, 7, 8, 9, 24])
@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_evaluation_visits_every_example_once(n, hosts):
  batch_size, seen = 8, []
  for batch in range(order.num_eval_batches(n, batch_size)):
    for rows in np.split(np.arange(batch_size), hosts):
      seen += order.eval_indices(batch, batch_size, rows, n).tolist()
  assert [i for i in seen if i >= 0] == list(range(n))
  assert len(seen) % batch_size == 0 and len(seen) - n < batch_size
