"""Published results of benchmarks, to be shown beside one's own and marked as such.

None of them was measured with this code. Where a source says so below, the numbers
were compared with a transcription of the paper, not with the paper itself.
"""

import dataclasses

_VIT = 'https://arxiv.org/abs/2010.11929'
_TRANSCRIBED = 'from a transcription'


@dataclasses.dataclass(frozen=True)
class PublishedResult:
  """Accuracies in percent; `score` is the unweighted mean over all tasks."""
  model: str
  score: float
  # Half-width that the source gives, such as a standard deviation over runs.
  spread: float | None = None
  # Means by group, and accuracies by task, as far as the source has them.
  groups: dict[str, float] = dataclasses.field(default_factory=dict)
  tasks: dict[str, float] = dataclasses.field(default_factory=dict)
  source: str = ''


def rows(benchmark: str) -> list[PublishedResult]:
  """The published rows of a benchmark; [] for one that is not known."""
  return BENCHMARKS.get(benchmark, [])


# Names of `vit_jax.sweep.vtab`.
_TASKS = (
    'caltech101', 'cifar100', 'dtd', 'oxford_flowers102', 'oxford_iiit_pet', 'sun397',
    'svhn', 'patch_camelyon', 'eurosat', 'resisc45', 'diabetic_retinopathy',
    'clevr_count', 'clevr_distance', 'dmlab', 'dsprites_location',
    'dsprites_orientation', 'kitti_distance', 'smallnorb_azimuth',
    'smallnorb_elevation')


def _by_task(*accuracies: float) -> dict[str, float]:
  return dict(zip(_TASKS, accuracies, strict=True))


def _by_group(natural: float, specialized: float,
              structured: float) -> dict[str, float]:
  return {'natural': natural, 'specialized': specialized, 'structured': structured}


_VTAB_1K = [
    PublishedResult('ViT-H/14, JFT-300M', 77.63, 0.23, tasks=_by_task(
        95.3, 85.5, 75.2, 99.7, 97.2, 65.0, 88.9, 83.3, 96.7, 91.4, 76.6, 91.7, 63.8,
        53.1, 79.4, 63.3, 84.5, 33.2, 51.2),
        source=f'{_VIT}, Table 2 and appendix ({_TRANSCRIBED})'),
    PublishedResult('ViT-L/16, JFT-300M', 76.28, 0.46, tasks=_by_task(
        95.4, 81.9, 74.3, 99.7, 96.7, 63.5, 87.4, 83.6, 96.5, 89.7, 77.1, 86.4, 63.1,
        49.7, 74.5, 60.5, 82.2, 36.2, 51.1),
        source=f'{_VIT}, Table 2 and appendix ({_TRANSCRIBED})'),
    PublishedResult('ViT-L/16, ImageNet-21k', 72.72, 0.21, tasks=_by_task(
        90.8, 84.1, 74.1, 99.3, 92.7, 61.0, 80.9, 82.5, 95.6, 85.2, 75.3, 70.3, 56.1,
        41.9, 74.7, 64.9, 79.9, 30.5, 41.7),
        source=f'{_VIT}, Table 2 and appendix ({_TRANSCRIBED})'),
    PublishedResult(
        'BiT-L R152x4, JFT-300M', 76.29, 1.70,
        source=f'{_VIT}, Table 2 ({_TRANSCRIBED})'),
    PublishedResult(
        'ViT-G/14, JFT-3B', 78.29, 0.53,
        source='https://arxiv.org/abs/2106.04560, as google-research/scenic quotes it'),
    PublishedResult(
        'BiT-M R152x4, ImageNet-21k', 73.51, groups=_by_group(80.77, 85.67, 61.08),
        source='README of google-research/big_transfer (their re-run)'),
    PublishedResult(
        'BiT-M R101x3, ImageNet-21k', 72.65, groups=_by_group(80.29, 85.75, 59.40),
        source='README of google-research/big_transfer (their re-run)'),
    PublishedResult(
        'ViT-B/16, ImageNet-21k, 224 pixels', 65.57,
        groups=_by_group(75.88, 83.36, 47.64),
        source='https://arxiv.org/abs/2203.12119, full fine-tuning by another protocol '
               '(as other papers quote it)'),
    PublishedResult(
        'ResNet50, ImageNet', 66.37, groups=_by_group(73.46, 82.49, 52.10),
        tasks=_by_task(
            90.95, 57.03, 66.01, 88.61, 89.87, 34.41, 87.32, 80.61, 95.31, 80.84, 73.20,
            40.96, 56.11, 36.29, 85.73, 45.96, 70.57, 45.74, 35.44),
        source='Sup-100% of docs/data/results.csv in google-research/task_adaptation, '
               'group means computed from it'),
    PublishedResult(
        'ResNet50 from scratch', 43.14, groups=_by_group(27.91, 68.94, 43.57),
        source='docs/data/results.csv of google-research/task_adaptation, means '
               'computed from it'),
]

# What a sweep's 'benchmark' may be.
BENCHMARKS: dict[str, list[PublishedResult]] = {'vtab-1k': _VTAB_1K}
