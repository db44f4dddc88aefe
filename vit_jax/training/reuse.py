"""What several runs in one process share."""

import dataclasses

from vit_jax.data.decoded_splits import DecodedSplits
from vit_jax.runtime.program_cache import ProgramCache


@dataclasses.dataclass(frozen=True)
class Reuse:
  """Kept by whoever calls `train` more than once, and handed to every call.

  Runs that differ in rates, schedule, length, seed or data alone compile once; runs
  that read the same split decode it once.
  """
  programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
  splits: DecodedSplits = dataclasses.field(default_factory=DecodedSplits)
