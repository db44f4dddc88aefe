"""TFDS slicing syntax, such as 'train[:90%]+validation', as ranges of examples."""

from collections.abc import Mapping
from types import SimpleNamespace

import tensorflow_datasets as tfds

from vit_jax.runtime.errors import UserError


def resolve(spec: str, shard_lengths: Mapping[str, list[int]],
            name: str) -> list[tuple[str, int, int]]:
  """[(split, start, stop), ...] of a spec; their concatenation is the split.

  Args:
    spec: in TFDS slicing syntax.
    shard_lengths: split -> number of examples in each of its files.
    name: of the data set, for messages.
  """
  infos = {split: SimpleNamespace(num_examples=sum(lengths), shard_lengths=lengths)
           for split, lengths in shard_lengths.items()}
  known = ', '.join(f'{split} ({info.num_examples:,} examples)'
                    for split, info in infos.items())
  hint = (f'The splits of {name} are {known}; slices are written as in '
          "'train[:90%]', 'train[100:200]' or 'train+test'.")
  try:
    parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
  except (ValueError, AssertionError, NotImplementedError) as e:
    # TFDS appends its own hint about the format on further lines.
    reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    raise UserError(f'Cannot read split {spec!r} of {name}: {reason} {hint}') from e
  ranges = []
  for part in parts:
    stop = infos[part.splitname].num_examples if part.to is None else part.to
    ranges.append((part.splitname, part.from_ or 0, stop))
  ranges = [(split, start, stop) for split, start, stop in ranges if start < stop]
  if not ranges:
    raise UserError(f'Split {spec!r} of {name} holds no examples. {hint}')
  return ranges
