"""What every kind of model has: options, classes, and answers about its arithmetic."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.config.sections import ModelSection
from vit_jax.config.settings import declared


class Model(nn.Module):
  """From images (B, H, W, 3) to (logits, intermediates by name).

  `vit_jax.create` builds one from a name. `options` are complete: the name, the caller
  and the platform have settled what may be 0, () or 'auto' in a configuration.
  """
  options: ModelSection
  num_classes: int = 0  # 0: no head

  # The fields of `options` that this kind of model has a use for.
  OPTIONS: ClassVar[tuple[str, ...]] = ()

  def __init_subclass__(cls, **kwargs: Any) -> None:
    cls.OPTIONS = tuple(name for name, known in declared(ModelSection).items()
                        if cls.__name__ in known.models)
    super().__init_subclass__(**kwargs)

  if TYPE_CHECKING:
    # Linen gives it to every module, which type checkers can't see.
    def __hash__(self) -> int: ...

  @property
  def dtype(self) -> np.dtype:
    """Of the computation."""
    return jnp.dtype(self.options.dtype)

  @property
  def param_dtype(self) -> np.dtype:
    return jnp.dtype(self.options.param_dtype)

  @property
  def has_class_token(self) -> bool:
    return False

  @property
  def strides(self) -> tuple[int, int]:
    """Pixels per token or feature that the model ends with, (height, width)."""
    raise NotImplementedError

  def flops(self, image_size: tuple[int, int]) -> int:
    """FLOPs of one (height, width) image's forward pass.

    Counts matrix products and convolutions alone, a multiply-add as 2: patch embedding,
    projections, attention scores and weighted values, MLPs, pooling and head. Norms,
    softmax, GELU, biases and residuals are left out: a few percent of the operations of
    B/16, and none of them uses the matrix unit, whose peak utilisation is measured
    against. A backward pass costs twice this.
    """
    raise NotImplementedError

  def settings(self) -> dict[str, Any]:
    """What `variants.create` takes for this model, next to a variant of its kind."""
    options = {name: getattr(self.options, name) for name in self.OPTIONS}
    return options | {'num_classes': self.num_classes}

  def with_options(self, **changes: Any) -> Self:
    """The same model with some options replaced; nothing is checked."""
    return self.clone(options=dataclasses.replace(self.options, **changes))
