"""The training step against the original code's five steps, and its properties."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.config.sections import (
  Config,
  OptimizerSection,
  PreprocessSection,
  ScheduleSection,
)
from vit_jax.models import variants
from vit_jax.objectives import losses
from vit_jax.objectives.classification import Classification
from vit_jax.training import keys, optimizers, schedules
from vit_jax.training import state as state_lib
from vit_jax.training import step as step_lib

CASE = 'vitjax_train5'


@functools.cache
def _case():
  return golden.load_case(CASE)


def _model(**options):
  return variants.create(
      '', 10, patch_size=(8, 8), width=24, depth=2, mlp_dim=64, num_heads=2,
      pool='token', **options)


SCHEDULE = schedules.learning_rate(
    ScheduleSection(name='cosine', warmup_steps=3), 0.05, 10)


def _rates(step):
  return step_lib.Rates(np.float32(SCHEDULE(step)), np.float32(0))


def _optimizer(**changes):
  section = OptimizerSection(
      **{'name': 'sgd', 'learning_rate': 0.05, 'clip_norm': 1.0, 'momentum': 0.9,
         'moment_dtype': 'bfloat16', **changes})
  return optimizers.create(section)


def _prepare(batch, key):
  del key
  return {'image': batch['image'], 'target': losses.targets(batch['label'], 10)}


def _run(steps=5, accum_steps=1, ema_decay=0.0, model=None, seed=0, state=None,
         optimizer=None):
  """The project's own step on the golden batches: (losses, norms, state)."""
  case = _case()
  optimizer = optimizer or _optimizer()
  step = jax.jit(step_lib.make_train_step(
      optimizer, _prepare,
      Classification(Config(), model or _model(), 10, PreprocessSection()).loss,
      accum_steps=accum_steps, ema_decay=ema_decay))
  if state is None:
    state = state_lib.create(case['params'], optimizer, ema=ema_decay > 0)
  seen, norms = [], []
  for i in range(int(state.step), int(state.step) + steps):
    batch = {'image': case['io']['images'][i], 'label': case['io']['labels'][i]}
    state, metrics = step(state, batch, np.uint32(seed), _rates(i))
    seen.append(float(metrics['loss']))
    norms.append(float(metrics['grad_norm']))
  return seen, norms, state


def _max_difference(a, b):
  return max(jax.tree.leaves(jax.tree.map(
      lambda x, y: float(np.abs(np.asarray(x, np.float32) - y).max()), a, b)))


@pytest.fixture(scope='module')
def plain():
  return _run()


def test_five_steps_of_the_original_code(plain):
  seen, norms, state = plain
  io = _case()['io']
  np.testing.assert_allclose(seen, io['losses'], atol=2e-5)
  np.testing.assert_allclose(norms, io['grad_norms_before_clip'], rtol=1e-4)
  assert _max_difference(state.params, _case()['params_final']) < 5e-5
  assert int(state.step) == 5


def test_momentum_is_stored_in_bfloat16_like_the_original(plain):
  momentum = [x for x in jax.tree.leaves(plain[2].opt_state)
              if x.dtype == jnp.bfloat16]
  expected = jax.tree.leaves(_case()['momentum_final'])
  assert len(momentum) == len(expected)
  largest = max(float(np.abs(x).max()) for x in expected)
  for x, y in zip(momentum, expected, strict=True):
    # One unit in the last place of bfloat16 is 2**-8 of the value.
    np.testing.assert_allclose(
        np.asarray(x, np.float32), y, atol=largest * 2**-8)


@pytest.mark.parametrize('accum_steps', [2, 4])
def test_accumulation_changes_nothing(plain, accum_steps):
  seen, norms, state = _run(accum_steps=accum_steps)
  np.testing.assert_allclose(seen, plain[0], atol=2e-5)
  np.testing.assert_allclose(norms, plain[1], rtol=1e-4)
  assert _max_difference(state.params, plain[2].params) < 2e-5
  if accum_steps == 2:
    np.testing.assert_allclose(seen, _case()['io']['losses_accum2'], atol=2e-5)


@pytest.mark.slow
def test_moving_average_is_the_weighted_sum_of_the_parameters():
  optimizer = _optimizer()
  _, _, state = _run(steps=1, ema_decay=0.75, optimizer=optimizer)
  history = [_case()['params'], state.params]
  for _ in range(2):
    _, _, state = _run(steps=1, ema_decay=0.75, state=state, optimizer=optimizer)
    history.append(state.params)
  weights = [0.75**3, 0.25 * 0.75**2, 0.25 * 0.75, 0.25]
  expected = jax.tree.map(
      lambda *xs: sum(w * np.asarray(x) for w, x in zip(weights, xs, strict=True)),
      *history)
  assert _max_difference(state.ema, expected) < 1e-6


@pytest.mark.slow
def test_randomness_follows_the_seed_and_the_step_alone():
  model = _model(dropout=0.3)
  first, _, _ = _run(steps=3, model=model, seed=1)
  again, _, _ = _run(steps=3, model=model, seed=1)
  other, _, _ = _run(steps=3, model=model, seed=2)
  assert first == again
  assert first[0] != other[0]
  # Going on from step 2 draws what an undisturbed run draws there.
  optimizer = _optimizer()
  _, _, state = _run(steps=2, model=model, seed=1, optimizer=optimizer)
  resumed, _, _ = _run(
      steps=1, model=model, seed=1, state=state, optimizer=optimizer)
  assert resumed == first[2:]


def test_warm_up_of_the_moving_average():
  optimizer = optax.sgd(1.0)
  step = step_lib.make_train_step(
      optimizer, lambda batch, key: batch,
      lambda params, examples, key: (-params['w'] * examples, {}),
      ema_decay=0.2, ema_warmup=True)
  state = state_lib.create({'w': jnp.float32(0)}, optimizer, ema=True)
  expected = 0.0
  for n, decay in enumerate([1 / 10, 2 / 11, 0.2, 0.2]):
    state, _ = step(state, jnp.float32(1), 0, _rates(0))
    expected = decay * expected + (1 - decay) * (n + 1)  # w grows by 1 a step
    assert float(state.ema['w']) == pytest.approx(expected, rel=1e-6)


def test_keys_of_parameters_and_steps_differ():
  def children(purpose):
    key = keys.of_purpose(3, purpose)
    return {tuple(jax.random.key_data(jax.random.fold_in(key, i)).tolist())
            for i in range(5)}
  assert len(children('parameters') | children('steps')) == 10


def test_accumulated_metrics_are_averages():
  def objective(params, examples, key):
    del key
    loss = (params * examples).mean()
    return loss, {'largest': examples.max()}
  params, examples = jnp.float32(2.0), jnp.arange(8.0)
  loss, metrics, grads = step_lib.accumulate(
      objective, params, examples, jax.random.key(0), 4)
  assert (float(loss), float(grads)) == (7.0, 3.5)
  # Micro-batch i holds examples i and i + 4.
  assert float(metrics['largest']) == np.mean([4, 5, 6, 7])


def test_clipping_bounds_the_update_and_not_the_reported_norm():
  optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0))
  state = state_lib.create({'w': jnp.zeros(4)}, optimizer, ema=False)
  step = step_lib.make_train_step(
      optimizer, lambda batch, key: batch,
      lambda params, batch, key: ((params['w'] * batch).sum(), {}))
  state, metrics = step(state, jnp.full(4, 5.0), 0, _rates(0))
  assert float(metrics['grad_norm']) == 10.0
  np.testing.assert_allclose(np.linalg.norm(state.params['w']), 0.1, rtol=1e-6)
