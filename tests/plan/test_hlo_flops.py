"""FLOPs read from compiled programs against XLA's count, where XLA counts right."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from vit_jax.plan import hlo, hlo_flops


def _compile(function, *shapes):
  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  return jax.jit(function).lower(*args).compile()


def _total(compiled):
  program = hlo.parse(compiled.as_text())
  return sum(hlo_flops.flops(program, program.entry, i)
             for i in program.entry.instructions)


@pytest.mark.parametrize('stride, padding, lhs, rhs', [
    ((1, 1), 'VALID', (1, 1), (1, 1)),
    ((2, 1), 'SAME', (1, 1), (1, 1)),
    ((1, 1), ((3, 0), (0, 2)), (2, 3), (1, 2)),
])
def test_convolutions(stride, padding, lhs, rhs):
  def convolve(x, w):
    return jax.lax.conv_general_dilated(
        x, w, stride, padding, lhs, rhs, ('NHWC', 'HWIO', 'NHWC'))
  compiled = _compile(convolve, (2, 9, 11, 3), (3, 5, 3, 8))
  # XLA leaves out the products with padding, too.
  assert _total(compiled) == compiled.cost_analysis()['flops']


def test_matrix_products():
  compiled = _compile(lambda x, w: jnp.einsum('bqnk,blnk->bnql', x, w),
                      (2, 7, 3, 16), (2, 5, 3, 16))
  assert _total(compiled) == 2 * 2 * 3 * 7 * 5 * 16


def test_windows_of_a_dot_that_became_a_convolution():
  # A batched product as the TPU compiler writes it: the batch is a spatial dim.
  text = (pathlib.Path(__file__).parent / 'hlo' / 'batched_product.txt').read_text()
  program = hlo.parse(text)
  # Each of the four positions meets its own kernel slice alone.
  assert hlo_flops.flops(program, program.entry, program.entry.root) == (
      2 * 4 * 8 * 16 * 32)
