"""Which patches are corrupted, and by what.

Dims: B images, L patches of an image.
"""

import jax
import jax.numpy as jnp

from vit_jax.config.sections import MaskedPatchesSection

MASK = -1  # stands for the mask embedding where the index of a patch could be


def corrupt(key: jax.Array, shape: tuple[int, int], section: MaskedPatchesSection
            ) -> tuple[jax.Array, jax.Array]:
  """Draws the corruption of a batch; arXiv 2010.11929, appendix B.1.2.

  Args:
    key: of the draws.
    shape: (B, L).
    section: shares and probabilities.

  Returns:
    The source of each embedding, (B, L) int32: the patch itself, another one of the
    image, or `MASK`; and whether the patch is corrupted, (B, L) bools: exactly
    `count` of every image, also those that keep their own embedding.
  """
  # One array of draws: it does not depend on how the batch is sharded.
  order, kind, other = jnp.moveaxis(jax.random.uniform(key, (*shape, 3)), -1, 0)
  rank = order.argsort(axis=-1).argsort(axis=-1)
  corrupted = rank < count(shape[1], section.share)
  own = jnp.arange(shape[1], dtype=jnp.int32)
  # Uniform over the other patches: 1 to L - 1 places further, around the end.
  further = jnp.floor(other * (shape[1] - 1)).astype(jnp.int32)
  another = (own + 1 + jnp.minimum(further, max(shape[1] - 2, 0))) % shape[1]
  source = jnp.where(kind < section.masked + section.replaced, another, own)
  source = jnp.where(kind < section.masked, MASK, source)
  return jnp.where(corrupted, source, own), corrupted


def count(patches: int, share: float) -> int:
  """How many patches of an image are corrupted."""
  return max(1, round(share * patches))
