"""Proof of a conversion: both weight sets on the same images, and bit for bit.

Outputs alone don't show everything: key biases have no influence on them at all, and
a head of zeros hides what comes before it.
"""

import dataclasses
import gc
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vit_jax.checkpoints import load, pretrained
from vit_jax.checkpoints.code_bases import links, pixels
from vit_jax.checkpoints.positions import POSITIONS, Grid, image_size_of
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

_DEFECT = ('Nothing was written. This is a defect of vit_jax, or the file was changed '
           'meanwhile; please report it.')
# Run to run, the reference implementations differ by about 1e-5 themselves.
_ATOL, _RTOL = 5e-5, 1e-4
_QKV_BIAS = re.compile(r'/(query|key|value)/bias$')

Outputs = tuple[np.ndarray, np.ndarray]  # logits, and inputs of the head


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Largest absolute differences of the logits, and how many arrays are the same."""
  same_settings: float  # of the weights alone
  # Of the outputs as the destination's code base computes them; None: no difference.
  as_there: float | None
  largest: float  # absolute logit, for comparison
  differences: list[str]  # known ones between the two code bases
  identical: int
  arrays: int

  def __str__(self) -> str:
    lines = ['Verified on 2 images: largest difference of the logits and '
             f'of their inputs {self.same_settings:.1e} '
             f'(logits up to {self.largest:.2f}). '
             f'{self.identical} of {self.arrays} arrays bit-identical.']
    if self.as_there is not None:
      lines.append('Computed as the destination does, the logits differ by up to '
                   f'{self.as_there:.1e}:')
    return '\n'.join(lines + [f'  {line}' for line in self.differences])


def compare(source: epath.PathLike, destination: epath.PathLike, grid: Grid | None,
            settings: Mapping[str, Any], *, folded: bool = False) -> Comparison:
  """Runs both checkpoints, one after the other.

  Args:
    source: path, opened with `settings`, see `load.fitted`.
    destination: path of what it was converted to.
    grid: (h, w) of the converted positions; None: any.
    settings: those of the conversion.
    folded: whether pixel statistics became part of the destination's weights.

  Raises:
    UserError: if weights or outputs differ, or outputs are not finite.
  """
  model, [expected] = _outputs(source, settings, grid, [{}])
  if not all(np.isfinite(x).all() for x in expected):
    raise UserError(
        f'{source} gives outputs that are not finite: it holds NaN or inf; use '
        '--no-verify to convert it as it is.')
  gc.collect()  # one set of weights in memory, not two
  # What the destination can't say is said; the rest is as it says.
  said = {name: getattr(model.options, name) for name in ('num_heads', 'pool')
          if name in model.OPTIONS}
  said |= {'position_grid': grid,
           'image_size': image_size_of(model, grid) if grid else None}
  with load.fitted(destination, **said) as (there, *_):
    written = model.with_options(**pixels.PLAIN) if folded else model
    changed = pretrained.computed_differently(written, there)
  ours = {name: here for name, (here, _) in changed.items()}
  theirs = {name: value for name, (_, value) in changed.items()}
  _, [actual, as_there] = _outputs(destination, said | ours, grid, [{}, theirs])
  distance = _distance(actual, expected)
  for a, b in zip(actual, expected, strict=True):
    if a.shape != b.shape or not np.allclose(a, b, atol=_ATOL, rtol=_RTOL):
      raise UserError(
          'The converted weights give other outputs: they differ by up to '
          f'{distance:.1e}. {_DEFECT}')
  identical, arrays = _compare_arrays(
      source, settings, destination, said, folded=folded)
  return Comparison(
      distance, _distance(as_there, expected) if changed else None,
      float(np.abs(expected[0]).max(initial=0)),
      # An eps of 0 stands for the original code's.
      [f'{name}: {here or "original"} here, {there or "original"} there'
       for name, (here, there) in changed.items()],
      identical, arrays)


def _compare_arrays(
    source: epath.PathLike, settings: Mapping[str, Any], destination: epath.PathLike,
    said: Mapping[str, Any], *, folded: bool) -> tuple[int, int]:
  """(bit-identical ones, all) of the destination's arrays, by our names.

  The source has the requested changes, such as resized positions. One array of each
  is in memory at a time, with those that its file stores together with it.
  """
  with (load.fitted(source, **settings) as (model, _, ours, report),
        load.fitted(destination, **said) as (there, _, theirs, _)):
    if folded:
      model, ours = pixels.folded(model, ours)
    if (model.options.position_prefix != there.options.position_prefix
        and POSITIONS in ours):
      # The destination has the class token's position as part of the token.
      pretrained.change_prefix(ours, model, there, report)
    wrong = list(ours.keys() - theirs.keys())
    for name, weight in theirs.items():
      if name not in ours:
        # Biases that the source's model lacks are written as zeros.
        same = _QKV_BIAS.search(name) and not weight.read().any()
      else:
        same = _same_bits(weight.read(), ours[name].read())
      if not same:
        wrong.append(name)
    added = len(theirs.keys() - ours.keys())
  if wrong:
    lines = links.shorten([f'  {name}' for name in sorted(wrong)])
    raise UserError(f'The converted arrays differ from the source:\n{lines}\n{_DEFECT}')
  return len(theirs) - added, len(theirs)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
  return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(
      _bytes(a), _bytes(b))


def _bytes(x: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def _outputs(
    path: epath.PathLike, settings: Mapping[str, Any], grid: Grid | None,
    variations: Sequence[Mapping[str, Any]]) -> tuple[Model, list[Outputs]]:
  """(model, its outputs for each variation of its options)."""
  model, variables = load.load(path, **{**settings, 'dtype': 'float32'})
  size = image_size_of(model, grid)
  images = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
  results: list[Outputs] = []
  for options in variations:
    if results and not options:
      results.append(results[0])
      continue
    run = jax.jit(model.with_options(**options).apply)
    # The head alone may be all zeros: published ImageNet-21k files have such.
    logits, out = run(variables, images)
    results.append((np.asarray(logits), np.asarray(out['pre_logits'], np.float32)))
  return model, results


def _distance(a: Outputs, b: Outputs) -> float:
  return max(float(np.abs(x - y).max(initial=0)) if x.shape == y.shape else np.inf
             for x, y in zip(a, b, strict=True))
