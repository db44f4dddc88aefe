"""Searches for the fastest form of a train step that fits a slice.

Every trial compiles the real step. The search goes stage by stage from the best so far:
how blocks are compiled and what they recompute, how the mesh is split, the form of the
projections, the compiler's VMEM limit. The batch and everything else that a run
computes stay what they are; accumulation steps are tried where memory asks for them.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config import tuned
from vit_jax.config.sections import Config
from vit_jax.models import variants, vit
from vit_jax.plan import memory, report, step_cost
from vit_jax.plan.cost_cache import CostCache
from vit_jax.plan.data_facts import Facts
from vit_jax.plan.step_cost import StepCost, Target
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.files import write_json

# (scan, remat), the fastest first as a rule: what is not recomputed and not stacked
# costs no time, only memory.
_BLOCKS = ((False, 'none'), (False, 'dots_no_batch'), (True, 'dots_no_batch'),
           (True, 'full'), (False, 'full'))
# How far the estimate from shapes may be off before a trial is not worth a compilation.
_MARGIN = 1.25
_VMEM = ('xla_tpu_scoped_vmem_limit_kib', '65536')


@dataclasses.dataclass(frozen=True)
class Trial:
  """A form of the step, and what was found out about it."""
  config: Config
  cost: StepCost

  @property
  def time(self) -> float:
    """What is ranked by: the mean of both estimates; infinite where it can't run."""
    if not self.cost.fits or not self.cost.seconds:
      return float('inf')
    return (self.cost.seconds + self.cost.seconds_low) / 2


def _to_stderr(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


class Search:
  """Tries forms of a step.

  Args:
    config: of the run.
    facts: of its data.
    target: the slices.
    limit: of programs that are compiled.
    cache: results of earlier searches.
    compiled: as `step_cost.from_compiler`.
    log: takes lines of progress.

  Attributes:
    config: of the run, with its mesh.
    trials: what was compiled, in order.
    skipped: what was not, in words.
  """

  def __init__(self, config: Config, facts: Facts, target: Target, limit: int,
               cache: CostCache | None = None,
               compiled: Callable[..., StepCost] = step_cost.from_compiler,
               log: Callable[[str], object] = _to_stderr) -> None:
    self.config = step_cost.resolve_mesh(config, facts, target)
    self.facts, self.target = facts, target
    self.trials: list[Trial] = []
    self.skipped: list[str] = []
    self._limit, self._cache, self._compiled = limit, cache, compiled
    self._log = log

  def run(self) -> list[Trial]:
    """All trials, the best first."""
    self._stage(self._blocks(self.config))
    for alternatives in (self._meshes, self._projections, self._options):
      if self.best is None or self._done:
        break
      self._stage(alternatives(self.best.config))
    return sorted(self.trials, key=lambda t: t.time)

  @property
  def best(self) -> Trial | None:
    found = min(self.trials, key=lambda t: t.time, default=None)
    return found if found and found.time < float('inf') else None

  @property
  def _done(self) -> bool:
    return len(self.trials) >= self._limit

  def _blocks(self, config: Config) -> Iterator[Config]:
    """Its own form first, so that the gain can be told."""
    yield config
    if _vit(config) is None:
      return
    for scan, remat in _BLOCKS:
      form = config_lib.with_values(
          config, {'model.scan': scan, 'model.remat': remat})
      yield form
      if (scan, remat) == (False, 'none') and not self._may_fit(form):
        # The fastest form for a part of the batch at a time.
        yield from self._accumulated(form)
    if self.best is None:
      yield from self._accumulated(config_lib.with_values(
          config, {'model.scan': True, 'model.remat': 'full'}))

  def _accumulated(self, config: Config) -> Iterator[Config]:
    """The same with the fewest accumulation steps that may fit."""
    per_device = config.batch_size // self.target.devices
    steps = 2 * config.accum_steps
    while steps <= per_device:
      form = config_lib.with_values(config, {'accum_steps': steps})
      if per_device % steps == 0 and self._may_fit(form):
        yield form
        return
      steps *= 2

  def _meshes(self, config: Config) -> Iterator[Config]:
    """Replicated; divided along one side of the slice; divided over all of it."""
    devices, side = self.target.slice.devices, max(self.target.slice.shape)
    for fsdp in dict.fromkeys((min(16, side), 1, side, devices)):
      yield config_lib.with_values(config, {'mesh.data': -1, 'mesh.fsdp': fsdp})

  def _projections(self, config: Config) -> Iterator[Config]:
    if _vit(config) is not None:
      for projection in ('2d', '3d'):
        yield config_lib.with_values(config, {'model.projection': projection})

  def _options(self, config: Config) -> Iterator[Config]:
    others = tuple(p for p in config.xla_options if p[0] != _VMEM[0])
    yield config_lib.with_values(config, {'xla_options': (*others, _VMEM)})
    yield config_lib.with_values(config, {'xla_options': others})

  def _stage(self, configs: Iterable[Config]) -> None:
    for config in configs:
      if self._done:
        self._log(f'stopped after {self._limit} programs (--tune_limit)')
        return
      if any(_program(config) == _program(t.config) for t in self.trials):
        continue
      estimate = self._from_shapes(config)
      if estimate is None:
        continue
      if estimate.total > _MARGIN * estimate.usable:
        self._skip(config, f'about {report.gib(estimate.total)} by shapes')
        continue
      self._log(f'compiling {describe(config)} ...')
      cost = self._compiled(config, self.facts, self.target, self._cache)
      self.trials.append(Trial(config, cost))
      self._log(f'  {outcome(cost)}')

  def _from_shapes(self, config: Config) -> StepCost | None:
    try:
      return step_cost.from_shapes(config, self.facts, self.target)
    except UserError as e:
      self._skip(config, str(e))
      return None

  def _may_fit(self, config: Config) -> bool:
    estimate = self._from_shapes(config)
    return estimate is not None and estimate.total <= _MARGIN * memory.usable(
        self.target.slice)

  def _skip(self, config: Config, reason: str) -> None:
    line = f'{describe(config)}: {reason}'
    if line not in self.skipped:
      self.skipped.append(line)
      self._log(f'skipped {line}')


def _vit(config: Config) -> vit.ViT | None:
  """The model if it is a ViT, which alone has forms to choose from; else None."""
  model = variants.from_section(config.model, 1, 'tpu')
  return model if isinstance(model, vit.ViT) else None


def _program(config: Config) -> Config:
  """What the compiled step depends on: equal ones are the same program."""
  return config_lib.compiled(
      config_lib.replace(config, 'model.projection', _projection(config)))


def tuned_settings(config: Config) -> dict[str, Any]:
  """{key: value} of what a search may change."""
  return {key: config_lib.get(config, key) for key in tuned.SETTINGS}


def _made_for(config: Config) -> dict[str, Any]:
  """{key: value} of what must be the same where the outcome is used."""
  return {key: config_lib.get(config, key) for key in tuned.MADE_FOR}


def _projection(config: Config) -> str:
  """The form of the blocks' products that 'auto' stands for."""
  model = _vit(config)
  return config.model.projection if model is None else model.options.projection


def describe(config: Config) -> str:
  """'unrolled, remat none, 2d projections, mesh -1 x 16'."""
  model = config.model
  words = ['scan' if model.scan else 'unrolled', f'remat {model.remat}',
           f'{_projection(config)} projections', f'fsdp {config.mesh.fsdp}']
  if config.accum_steps > 1:
    words.append(f'{config.accum_steps} accumulation steps')
  words += [f'{name.removeprefix("xla_tpu_")}={value}'
            for name, value in config.xla_options]
  return ', '.join(words)


def outcome(cost: StepCost) -> str:
  if not cost.fits:
    return cost.problem or f'does not fit: {report.gib(cost.total)}'
  if not cost.seconds:
    return f'fits: {report.gib(cost.total)}'
  return (f'{cost.seconds * 1e3:.1f} ms (low {cost.seconds_low * 1e3:.1f}), '
          f'{report.gib(cost.total)}')


def table(trials: Sequence[Trial], target: Target) -> str:
  """The ranking as text."""
  lines = ['rank  step ms  (low)    MFU    GiB  form']
  for rank, t in enumerate(trials, 1):
    if t.time == float('inf'):
      lines.append(f'   -        -      -      -      -  {describe(t.config)}: '
                   f'{outcome(t.cost)}')
      continue
    c = t.cost
    lines.append(
        f'{rank:>4} {c.seconds * 1e3:8.1f} {c.seconds_low * 1e3:6.1f} '
        f'{report.mfu(target, c):6.1%} {c.total / 2**30:6.2f}  {describe(t.config)}')
  return '\n'.join(lines)


def write(path: str, best: Trial, target: Target) -> None:
  """Writes the file that `train --config.tuned=FILE` takes."""
  try:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_json(pathlib.Path(path), {
        'kind': tuned.KIND, 'slice': target.name,
        'estimate': {'seconds': best.cost.seconds,
                     'seconds_low': best.cost.seconds_low,
                     'bytes_per_device': best.cost.total},
        'made_for': _made_for(best.config),
        'settings': tuned_settings(best.config)})
  except OSError as e:
    raise UserError(
        f'Cannot write the tuned settings to {path}: {e.strerror}. Give another '
        '--output.') from e
