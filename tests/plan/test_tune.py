"""The search over forms of a step, with a compiler whose answers are known."""

import dataclasses
import json

import pytest

from vit_jax import config as config_lib
from vit_jax.config import loading
from vit_jax.parallel import tpu_slices
from vit_jax.plan import data_facts, step_cost, tune
from vit_jax.plan.cost_cache import CostCache
from vit_jax.runtime.errors import UserError

TARGET = step_cost.Target(tpu_slices.parse('v5e:4x4'))


@pytest.fixture
def config():
  return config_lib.check(config_lib.from_dict({
      'total_steps': 10, 'batch_size': 16 * 64,
      'model': dict(variant='', patch_size=(8, 8), width=128, depth=2, mlp_dim=128,
                    num_heads=2, pool='gap', scan=True, remat='full'),
      'data': dict(name='imagenet2012', image_size=(32, 32)),
      'optimizer': dict(name='adamw'), 'mesh': dict(fsdp=1)}))


@pytest.fixture
def facts(config):
  return data_facts.find(config)


class Compiler:
  """Milliseconds by setting; what is unrolled without remat takes 20 GiB."""

  def __init__(self, too_large=()):
    self.seen, self.too_large = [], too_large

  def __call__(self, config, facts, target, cache):
    self.seen.append(config)
    model = config.model
    cost = step_cost.from_shapes(config, facts, target)
    form = (model.scan, model.remat)
    ms = {'none': 60, 'dots_no_batch': 70, 'full': 100}[model.remat] + 20 * model.scan
    ms += {16: -3, 4: -5, 1: 0}[config.mesh.fsdp]
    # 'auto' is '3d' on a TPU.
    ms += {'2d': 4, '3d': 0, 'auto': 0}[model.projection]
    ms -= 10 * bool(config.xla_options)
    ms += 30 * (config.accum_steps - 1)
    fits = form not in self.too_large
    return dataclasses.replace(
        cost, compiled=True, fits=fits, seconds=ms / 1e3 if fits else 0.0,
        seconds_low=ms / 1e3 if fits else 0.0)


def _search(config, facts, compiler, limit=20):
  return tune.Search(config, facts, TARGET, limit, compiled=compiler,
                     log=lambda line: None)


@pytest.mark.slow
def test_the_best_of_every_stage_is_kept(config, facts):
  search = _search(config, facts, Compiler())
  trials = search.run()
  assert tune.tuned_settings(search.best.config) == {
      'model.scan': False, 'model.remat': 'none', 'model.projection': 'auto',
      'mesh.data': -1, 'mesh.fsdp': 4, 'accum_steps': 1,
      'xla_options': (('xla_tpu_scoped_vmem_limit_kib', '65536'),)}
  assert trials[0] is search.best
  assert [t.time for t in trials] == sorted(t.time for t in trials)
  # 60 - 5 - 10 ms.
  assert search.best.time == pytest.approx(0.045)
  # What the run computes is the same everywhere.
  assert {(t.config.batch_size, t.config.seed) for t in trials} == {(1024, 0)}


def test_no_program_is_compiled_twice(config, facts):
  compiler = Compiler()
  _search(config, facts, compiler).run()
  programs = [tune._program(c) for c in compiler.seen]
  assert all(programs.count(p) == 1 for p in programs)
  # Its own form comes first, so that the gain can be told.
  assert compiler.seen[0] == config


def test_what_does_not_fit_is_passed_over(config, facts):
  compiler = Compiler(too_large=((False, 'none'), (False, 'dots_no_batch')))
  search = _search(config, facts, compiler)
  search.run()
  assert (search.best.config.model.scan, search.best.config.model.remat) == (
      True, 'dots_no_batch')


def test_limit(config, facts):
  compiler = Compiler()
  trials = _search(config, facts, compiler, limit=3).run()
  assert len(trials) == len(compiler.seen) == 3


def test_nothing_fits(config, facts):
  forms = [(scan, remat) for scan in (True, False)
           for remat in ('none', 'dots_no_batch', 'full')]
  compiler = Compiler(too_large=forms)
  search = _search(config, facts, compiler)
  search.run()
  assert search.best is None
  # Accumulation is the last resort.
  assert compiler.seen[-1].accum_steps == 2


@pytest.mark.slow
def test_shapes_alone_rule_out_what_is_far_too_large(config, facts):
  large = config_lib.with_values(config, {
      'model.width': 1024, 'model.mlp_dim': 4096, 'model.depth': 24,
      'model.num_heads': 16, 'data.image_size': [256, 256], 'batch_size': 16 * 256})
  compiler = Compiler()
  search = _search(large, facts, compiler)
  search.run()
  assert all(c.model.remat != 'none' or c.accum_steps > 1 for c in compiler.seen)
  assert any('unrolled, remat none' in line for line in search.skipped)
  # A part of the batch at a time would fit, and is tried.
  assert any(c.model.remat == 'none' and c.accum_steps > 1 for c in compiler.seen)


def test_the_file_is_what_train_takes(config, facts, tmp_path, monkeypatch):
  search = _search(config, facts, Compiler())
  search.run()
  path = tmp_path / 'deep' / 'tuned.json'
  tune.write(str(path), search.best, TARGET)
  monkeypatch.setattr(loading, '_read_file',
                      lambda spec: config_lib.to_dict(config))
  loaded = config_lib.load('any.py', [f'--config.tuned={path}'])
  assert loaded == config_lib.replace(search.best.config, 'tuned', str(path))
  # What is said on the command line counts more.
  loaded = config_lib.load('any.py', [
      f'--config.tuned={path}', '--config.model.remat=dots', '--config.mesh.fsdp=2'])
  assert (loaded.model.remat, loaded.mesh.fsdp) == ('dots', 2)
  assert loaded.model.scan is False


def test_a_search_goes_on_from_its_file(tmp_path):
  path = tmp_path / 'results.json'
  CostCache(path)['key'] = {'fits': True, 'seconds': 0.5}
  again = CostCache(path)
  assert 'key' in again and again['key']['seconds'] == 0.5
  path.write_text('half of a fi')
  with pytest.raises(UserError, match='Remove it'):
    CostCache(path)


def test_ranking_is_printed(config, facts):
  search = _search(config, facts, Compiler(too_large=((False, 'none'),)))
  text = tune.table(search.run(), TARGET).splitlines()
  assert text[1].split()[0] == '1'
  assert 'unrolled, remat none' in text[-1] and 'does not fit' in text[-1]
  assert json.dumps(text)  # no stray characters
