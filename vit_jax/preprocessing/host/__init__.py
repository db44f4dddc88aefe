"""Preprocessing on the host, as TensorFlow ops; the module is handed in as `tf`."""

from typing import Any, TypeAlias

# A tf.Tensor, whose class TensorFlow's module alone has.
Tensor: TypeAlias = Any
