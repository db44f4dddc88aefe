"""The order of runs and windows."""

import itertools

import numpy as np
import pytest

from vit_jax.data.run_order import Layout, RunOrder

LAYOUTS = [Layout(num_examples, batch, run, window)
           for num_examples, batch, run, window in [
               (1, 1, 1, 1), (17, 4, 3, 6), (100, 8, 5, 20), (101, 8, 5, 10),
               (97, 24, 7, 14), (64, 8, 64, 64), (1000, 96, 9, 27), (5, 16, 2, 4),
               (1023, 16, 10, 1000)]]


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_every_epoch_holds_every_example_once(layout):
  order, n = RunOrder(layout, seed=3), layout.num_examples
  epochs = order.indices(np.arange(4 * n)).reshape(4, n)
  for epoch in epochs:
    assert sorted(epoch) == list(range(n))
  if n > 10:
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_order_depends_on_seed_and_position_alone(layout):
  positions = np.random.default_rng(0).permutation(3 * layout.num_examples)[:40]
  found = RunOrder(layout, seed=1).indices(positions)
  fresh = [RunOrder(layout, seed=1).indices([p])[0] for p in positions]
  assert found.tolist() == fresh
  if layout.num_examples > 10:
    assert found.tolist() != RunOrder(layout, seed=2).indices(positions).tolist()


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_windows_cover_what_is_needed_and_little_more(layout):
  order, batch = RunOrder(layout, seed=0), layout.batch_size
  for lanes in (range(layout.lanes), [layout.lanes - 1]):
    rows = np.concatenate([np.arange(lane * layout.rows, (lane + 1) * layout.rows)
                           for lane in lanes])
    for step in range(3 * layout.num_examples // batch + 2):
      windows = order.windows(step * batch, (step + 1) * batch, lanes)
      assert len(set(windows)) == len(windows)
      held = {i for w in windows for a, b in order.ranges(w) for i in range(a, b)}
      assert set(order.indices(step * batch + rows).tolist()) <= held


def test_each_example_is_read_once_an_epoch_over_all_lanes():
  layout = Layout(1000, 16, 10, 40)
  order = RunOrder(layout, seed=0)
  windows = set(itertools.chain.from_iterable(
      order.windows(p, p + 16, range(16)) for p in range(0, 2000, 16)))
  for epoch in (0, 1):
    read = [i for w in windows if w.epoch == epoch
            for a, b in order.ranges(w) for i in range(a, b)]
    assert sorted(read) == list(range(1000))
    ranges = sum(len(order.ranges(w)) for w in windows if w.epoch == epoch)
    # A run is cut only where a lane, or its first window, begins or ends.
    assert ranges <= 100 + 2 * 16 + 50


def test_runs_stay_whole():
  order = RunOrder(Layout(1000, 4, 10, 100), seed=0)
  lengths = [b - a for w in order.windows(0, 900, range(4)) if w.epoch == 0
             for a, b in order.ranges(w)]
  assert np.median(lengths) == 10 and max(lengths) == 10


def test_order_stays_what_it_was():
  # A checkpoint is resumed by later versions, too; these values must never change.
  found = RunOrder(Layout(12, 4, 2, 4), seed=0).indices(np.arange(12))
  assert found.tolist() == [1, 3, 11, 9, 4, 2, 10, 7, 0, 5, 8, 6]
