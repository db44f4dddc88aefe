"""Links of layers as PyTorch lays them out, shared by Hugging Face and timm.

Linear layers are (out, in) there, convolutions (out, in, height, width); D is the
width, N the heads, K the head size.
"""

import numpy as np

from vit_jax.checkpoints.code_bases import links
from vit_jax.checkpoints.code_bases.links import Link


def matrix(theirs: str, ours: str) -> Link:
  """(out, in) there, (in, out) here."""
  return links.one(theirs, ours, np.transpose, np.transpose)


def convolution(theirs: str, ours: str) -> Link:
  """(out, in, height, width) there, (height, width, in, out) here."""
  return links.one(theirs, ours, lambda x: x.transpose(2, 3, 1, 0),
                   lambda x: x.transpose(3, 2, 0, 1))


def norm(theirs: str, ours: str) -> list[Link]:
  return [links.same(f'{theirs}.weight', f'{ours}/scale'),
          links.same(f'{theirs}.bias', f'{ours}/bias')]


def dense(theirs: str, ours: str) -> list[Link]:
  return [matrix(f'{theirs}.weight', f'{ours}/kernel'),
          links.same(f'{theirs}.bias', f'{ours}/bias')]


def heads_out(theirs: str, ours: str, num_heads: int) -> list[Link]:
  """(D, N*K) there, (N, K, D) here."""
  def read(x: np.ndarray) -> np.ndarray:
    return x.T.reshape(num_heads, -1, x.shape[0])
  def write(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1]).T
  return [links.one(f'{theirs}.weight', f'{ours}/out/kernel', read, write),
          links.same(f'{theirs}.bias', f'{ours}/out/bias')]


def heads_in(theirs: str, ours: str, num_heads: int, bias: bool = True) -> list[Link]:
  """(N*K, D) there, (D, N, K) here."""
  result = [links.one(
      f'{theirs}.weight', f'{ours}/kernel',
      lambda x: x.T.reshape(x.shape[1], num_heads, -1),
      lambda x: x.reshape(x.shape[0], -1).T)]
  if bias:
    result.append(links.one(
        f'{theirs}.bias', f'{ours}/bias',
        lambda x: x.reshape(num_heads, -1), lambda x: x.reshape(-1)))
  return result


def heads_in_together(theirs: str, ours: str, parts: tuple[str, ...], num_heads: int,
                      bias: bool = True) -> list[Link]:
  """One (parts*N*K, D) there, one (D, N, K) per part here."""
  n = len(parts)
  def read(x: np.ndarray) -> tuple[np.ndarray, ...]:
    # (parts, N, K, D) -> parts x (D, N, K)
    return tuple(x.reshape(n, num_heads, -1, x.shape[1]).transpose(0, 3, 1, 2))
  def write(*kernels: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.concatenate([x.reshape(x.shape[0], -1).T for x in kernels]),)
  result = [Link((f'{theirs}.weight',), tuple(f'{ours}/{p}/kernel' for p in parts),
                 read, write)]
  if bias:
    result.append(Link(
        (f'{theirs}.bias',), tuple(f'{ours}/{p}/bias' for p in parts),
        lambda x: tuple(x.reshape(n, num_heads, -1)),
        lambda *x: (np.concatenate([b.reshape(-1) for b in x]),)))
  return result
