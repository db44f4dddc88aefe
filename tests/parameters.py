"""Parameters of a model, from shapes alone: how many, and in the stacked layout."""

import functools
import math
import re

import jax
import numpy as np

from vit_jax.models import layout


def count(model, image_size=(224, 224)) -> int:
  """Number of parameters; allocates nothing."""
  model = model.with_options(scan=True)  # traces one block of a ViT instead of all
  init = functools.partial(layout.init, model, image_size=image_size)
  return sum(math.prod(x.shape) for x in jax.tree.leaves(
      jax.eval_shape(init, jax.random.key(0))))


def stacked(params: dict) -> dict:
  """Those of an unrolled ViT as a scanned one has them."""
  encoder = params['Transformer']
  names = [name for name in encoder if re.fullmatch(r'encoderblock_\d+', name)]
  names = sorted(names, key=lambda name: int(name.split('_')[1]))
  rest = {name: value for name, value in encoder.items() if name not in names}
  blocks = jax.tree.map(lambda *arrays: np.stack(arrays), *(encoder[n] for n in names))
  return params | {'Transformer': rest | {'encoderblock': blocks}}
