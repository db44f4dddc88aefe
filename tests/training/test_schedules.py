"""Learning rates against closed forms and the original code's figures."""

import dataclasses
import math

import numpy as np
import pytest

from vit_jax.config import sections, settings
from vit_jax.runtime import errors
from vit_jax.training import schedules

NAMES = settings.declared(sections.ScheduleSection)['name'].choices


def _rates(peak=1.0, total=100, steps=None, **settings):
  section = sections.ScheduleSection(**settings)
  rate = schedules.learning_rate(section, peak, total)
  steps = np.arange(total + 1) if steps is None else np.asarray(steps)
  return np.array([rate(step) for step in steps.tolist()])


def _expected(name, step, *, peak, total, warmup, cooldown, end, timescale):
  elapsed = max(0, step - warmup)
  done = min(1.0, elapsed / (total - warmup))
  value = {
    'constant': peak,
    'linear': peak + (end - peak) * done,
    'cosine': end + (peak - end) * (1 + math.cos(math.pi * done)) / 2,
    'rsqrt': peak / math.sqrt(1 + elapsed / timescale),
    # Of 100 steps, with the defaults.
    'piecewise': peak * 0.1 ** sum(step > drop for drop in (30, 60, 90)),
  }[name]
  if warmup:
    value *= min(1.0, step / warmup)
  if cooldown:
    value *= min(1.0, max(0, total - step) / cooldown)
  return value


def test_original_code():
  """`learning_rates` of the golden case vitjax_train5."""
  rates = _rates(0.05, 10, range(5), name='cosine', warmup_steps=3)
  np.testing.assert_allclose(
    rates, [0, .01666667, .03333334, .05, .04752422], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('warmup,cooldown', [(0, 0), (10, 0), (0, 20), (10, 20)])
@pytest.mark.parametrize('name', NAMES)
def test_closed_form(name, warmup, cooldown):
  read = settings.reads(sections.ScheduleSection, name)
  end = 1e-5 if 'end_learning_rate' in read else 0.0
  timescale = 25 if name == 'rsqrt' else 10_000
  rates = _rates(
    0.3, 100, range(120), name=name, warmup_steps=warmup,
    cooldown_steps=cooldown, end_learning_rate=end, timescale=timescale)
  expected = [
    _expected(name, step, peak=0.3, total=100, warmup=warmup, cooldown=cooldown,
              end=end, timescale=timescale) for step in range(120)]
  np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize('name', NAMES)
def test_shape_of_every_schedule(name):
  timescale = 30 if name == 'rsqrt' else 10_000
  rates = _rates(
    2.0, name=name, warmup_steps=20, cooldown_steps=30, timescale=timescale)
  assert rates[0] == 0.0
  assert rates[20] == rates.max() == 2.0
  assert (np.diff(rates[:21]) > 0).all() and (np.diff(rates[20:]) <= 0).all()
  assert rates[-1] == 0.0 < rates[-2]


def test_hand_values():
  assert _rates(steps=[0, 50, 100], name='linear', end_learning_rate=0.5).tolist() \
    == [1.0, 0.75, 0.5]
  np.testing.assert_allclose(_rates(steps=[0, 50, 100], name='cosine'),
                             [1.0, 0.5, 0.0], atol=1e-7)
  # After `timescale` steps the rate has fallen by sqrt(2), after 3 by 2.
  np.testing.assert_allclose(
    _rates(steps=[10, 20, 40], name='rsqrt', warmup_steps=10, timescale=10),
    [1.0, math.sqrt(0.5), 0.5], rtol=1e-6)
  assert _rates(steps=[90, 95, 100], name='constant', cooldown_steps=10).tolist() \
    == [1.0, 0.5, 0.0]
  # Nothing but warm-up: no division by the zero steps that are left.
  assert _rates(total=4, name='cosine', warmup_steps=4).tolist() \
    == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_drops_of_published_protocols():
  """VTAB's example: 2500 steps with drops at 750, 1500 and 2250; BiT's schedules.

  The first step with the lower rate comes after the boundary, as with
  tf.train.piecewise_constant.
  """
  rates = _rates(0.01, 2500, [0, 750, 751, 1500, 1501, 2250, 2251], name='piecewise')
  np.testing.assert_allclose(
    rates, [0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5], rtol=1e-12)
  rates = _rates(0.003, 10_000, [250, 500, 3000, 3001, 6001, 9001],
                 name='piecewise', warmup_steps=500)
  np.testing.assert_allclose(
    rates, [0.0015, 0.003, 0.003, 3e-4, 3e-5, 3e-6], rtol=1e-12)
  rates = _rates(0.003, 500, [200, 201, 301, 401], name='piecewise',
                 drop_at=(0.4, 0.6, 0.8))
  np.testing.assert_allclose(rates, [0.003, 3e-4, 3e-5, 3e-6], rtol=1e-12)


@pytest.mark.parametrize('settings,words', [
  ({'name': 'cosin'}, ["'cosin'", "Did you mean 'cosine'?"]),
  ({'name': 'constant', 'end_learning_rate': 0.1}, ['end_learning_rate is 0.1']),
  ({'name': 'cosine', 'timescale': 5}, ['timescale is 5', 'end_learning_rate']),
  ({'warmup_steps': 60, 'cooldown_steps': 50}, ['60', '50', '100 steps']),
  ({'warmup_steps': -1}, ['warmup_steps is -1']),
  ({'cooldown_steps': -1}, ['cooldown_steps is -1']),
  ({'end_learning_rate': 2.0}, ['2.0', 'between 0 and']),
  ({'end_learning_rate': -1.0}, ['-1.0', 'between 0 and']),
  ({'name': 'rsqrt', 'timescale': 0}, ['timescale is 0']),
  ({'name': 'piecewise', 'drop_at': ()}, ['drop_at is ()', '(0.3, 0.6, 0.9)']),
  ({'name': 'piecewise', 'drop_at': (0.5, 3000)}, ['drop_at', '3000']),
  ({'name': 'piecewise', 'drop_factor': 2.0}, ['drop_factor is 2.0']),
])
def test_bad_sections(settings, words):
  section = dataclasses.replace(sections.ScheduleSection(), **settings)
  with pytest.raises(errors.UserError) as caught:
    schedules.learning_rate(section, 1.0, 100)
  for word in words:
    assert word in str(caught.value)


@pytest.mark.parametrize('peak,total', [
  (-1.0, 10), (math.nan, 10), (math.inf, 10), (1.0, 0)])
def test_bad_peak_or_length(peak, total):
  with pytest.raises(errors.UserError):
    schedules.learning_rate(sections.ScheduleSection(), peak, total)
