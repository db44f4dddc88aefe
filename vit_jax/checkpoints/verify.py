"""Proof of a conversion: both weight sets on the same images."""

import dataclasses
import gc

import jax
import numpy as np

from vit_jax.checkpoints import detect, load
from vit_jax.checkpoints.pretrained import NUMERICS
from vit_jax.errors import UserError

# Run to run, the reference implementations differ by about 1e-5 themselves.
_ATOL, _RTOL = 5e-5, 1e-4


@dataclasses.dataclass
class Comparison:
  """Largest absolute differences of the logits."""
  same_settings: float  # of the weights alone
  # Of the outputs as the destination's world computes them; None: no difference.
  as_there: float | None
  largest: float  # absolute logit, for comparison
  differences: list[str]  # known ones between the two worlds

  def __str__(self):
    lines = ['Verified on 2 images: largest difference of the logits and '
             f'of their inputs {self.same_settings:.1e} '
             f'(logits up to {self.largest:.2f}).']
    if self.as_there is not None:
      lines.append('Computed as the destination does, the logits differ by up to '
                   f'{self.as_there:.1e}:')
    return '\n'.join(lines + [f'  {line}' for line in self.differences])


def compare(source, destination, grid, settings: dict) -> Comparison:
  """Runs both checkpoints, one after the other.

  Args:
    source: path, opened with `settings`, see `load.fitted`.
    destination: path of what it was converted to.
    grid: (h, w) of the converted positions; None: any.
    settings: those of the conversion.

  Raises:
    UserError: if the weights give different outputs.
  """
  model, [expected] = _outputs(source, settings, grid, [{}])
  gc.collect()  # one set of weights in memory, not two
  # What the destination can't say is said; the rest is as it says.
  said = {name: getattr(model, name) for name in ('num_heads', 'pool')
          if hasattr(model, name)}
  said |= {'position_grid': grid,
           'image_size': detect.image_size_of(model, grid) if grid else None}
  with load.fitted(destination, **said) as (there, *_):
    changed = {
        name: getattr(there, name) for name in NUMERICS
        if getattr(there, name, None) != getattr(model, name, None)}
  ours = {name: getattr(model, name) for name in changed}
  _, [actual, as_there] = _outputs(destination, said | ours, grid, [{}, changed])
  result = Comparison(
      _distance(actual, expected), _distance(as_there, expected) if changed else None,
      float(np.abs(expected[0]).max(initial=0)),
      # An eps of 0 stands for the original code's.
      [f'{name}: {getattr(model, name) or "original"} here, {value or "original"} there'
       for name, value in changed.items()])
  for a, b in zip(actual, expected, strict=True):
    if a.shape != b.shape or not np.allclose(a, b, atol=_ATOL, rtol=_RTOL):
      raise UserError(
          f'The converted weights give other outputs: they differ by up to '
          f'{result.same_settings:.1e}. Nothing was written. This is a defect of '
          'vit_jax, or the file was changed meanwhile; please report it.')
  return result


def _outputs(path, settings, grid, variations):
  """(model, [(logits, inputs of the head) for each variation of its fields])."""
  settings = settings | {'dtype': 'float32'}
  model, variables = load.load(path, **settings)
  size = detect.image_size_of(model, grid)
  images = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
  results = []
  for fields in variations:
    if results and not fields:
      results.append(results[0])
      continue
    run = jax.jit(model.clone(**fields).apply)
    # The head alone may be all zeros: published ImageNet-21k files have such.
    logits, out = run(variables, images)
    results.append((np.asarray(logits), np.asarray(out['pre_logits'], np.float32)))
  return model, results


def _distance(a, b):
  return max(float(np.abs(x - y).max(initial=0)) if x.shape == y.shape else np.inf
             for x, y in zip(a, b, strict=True))
