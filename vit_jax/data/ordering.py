"""Which order the examples of a training run have, by `config.data.order`."""

from collections.abc import Callable

from absl import logging

from vit_jax.config.sections import DataSection
from vit_jax.data.order import GlobalOrder, Order
from vit_jax.data.run_order import Layout, RunOrder
from vit_jax.data.sources import Source

# Bytes of a run: their transfer takes a store about as long as its answer.
_RUN = 2 * 2**20

# (seed, size of the global batch) -> Order.
MakeOrder = Callable[[int, int], Order]


def choose_order(data: DataSection, source: Source) -> MakeOrder:
  """The order of a split; reads the sizes of its files where they matter.

  'auto' takes the permutation of all examples unless it would cost a request to an
  object store for each of them.
  """
  name = data.order
  if name == 'auto':
    limit = data.cache_limit_gib * 2**30
    name = 'runs' if source.remote and source.num_bytes > limit else 'global'
    if source.remote:
      logging.info("config.data.order='auto' takes %r for %s.", name, source.name)
  if name == 'global':
    return lambda seed, batch_size: GlobalOrder(source.num_examples, seed)
  mean = max(1, source.num_bytes // source.num_examples)
  def make(seed: int, batch_size: int) -> Order:
    return RunOrder(layout_of(
        source.num_examples, batch_size, mean, data.window_gib), seed)
  return make


def layout_of(num_examples: int, batch_size: int, mean_bytes: int, window_gib: float
              ) -> Layout:
  """The runs and windows for records of `mean_bytes`, `window_gib` over all lanes."""
  run = min(num_examples, max(1, _RUN // mean_bytes))
  lanes = Layout(num_examples, batch_size, run, run).lanes
  window = int(window_gib * 2**30 / mean_bytes / lanes)
  return Layout(num_examples, batch_size, run, max(2 * run, window // run * run))
