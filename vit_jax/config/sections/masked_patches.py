"""Settings of the objective 'masked_patches'."""

import dataclasses

from vit_jax.config.settings import Rule, probability, setting


@dataclasses.dataclass(frozen=True)
class MaskedPatchesSection:
  """What is corrupted and predicted; arXiv 2010.11929, appendix B.1.2."""
  target: str = setting(
      'mean_colour', "What is predicted of a corrupted patch: 'mean_colour' (3 bits "
      "a channel, 512 classes), 'colours' (the same of 4 x 4 cells) or 'pixels' (by "
      'squared error).', choices=('mean_colour', 'colours', 'pixels'))
  share: float = setting(
      0.5, 'Share of the patches that are corrupted, at least one of an image.',
      rule=Rule(lambda x: 0 < x <= 1, 'must be in (0, 1]'))
  masked: float = setting(
      0.8, 'Probability that a corrupted patch has the mask embedding.',
      rule=probability())
  replaced: float = setting(
      0.1, 'Probability that it has the embedding of another patch of its image; all '
      'others stay as they are.', rule=probability())
