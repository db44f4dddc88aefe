"""The 19 tasks of VTAB: data, labels and transforms of each as a row of one table.

Data and labels are those of the benchmark's code (google-research/task_adaptation).
Crops and flips are those that google-research/scenic ships for fine-tuning ViTs on
VTAB; their grouping is very likely the one of BiT (https://arxiv.org/abs/1912.11370),
which the ViT paper says it follows.
"""

import dataclasses

from vit_jax.sweep.vtab import subsets

GROUPS = ('natural', 'specialized', 'structured')
PRESETS = ('paper', 'lightweight')
VARIANTS = ('1k', 'full')
STAGES = ('search', 'final')


@dataclasses.dataclass(frozen=True)
class Task:
  """One task; its score is plain top-1 accuracy on the whole test subset."""
  name: str
  group: str
  # The TFDS name of the data: versions that differ in nothing the task uses are all
  # accepted, so that what was prepared by an older TFDS works as well.
  builder: str
  num_classes: int
  label_key: str = 'label'
  # A row of `vit_jax.data.labels`.
  label_rule: str = ''
  pixel_factor: int = 1
  # Preset 'paper': whether training images are cropped (from 7/6 of the size) and
  # mirrored; a task's labels must survive both.
  crop: bool = True
  flip: bool = True

  def subsets(self, sizes: dict | None = None) -> dict:
    """See `vit_jax.sweep.vtab.subsets`."""
    return subsets.subsets(self.builder.split('/')[0].split(':')[0], sizes)

  def overrides(self, stage: str, resolution: int = 384, preset: str = 'paper',
                variant: str = '1k', sizes: dict | None = None) -> dict:
    """The task as {dotted key of a config: value}.

    Args:
      stage: 'search' trains on train800 and scores val200; 'final' trains on both and
        scores the test subset. Variant 'full' has all of train, val and trainval.
      resolution: height and width of the model's input.
      preset: 'paper' crops and mirrors as the row says; 'lightweight' only stretches
        images to `resolution`, as the benchmark's own code.
      variant: '1k' or 'full'.
      sizes: of a smaller data set in place of the real one, see `subsets`.
    """
    for key, value, valid in (('stage', stage, STAGES), ('preset', preset, PRESETS),
                              ('variant', variant, VARIANTS)):
      if value not in valid:
        raise ValueError(f'{key} is {value!r}; expected one of {", ".join(valid)}.')
    crops = self.crop and preset == 'paper'
    # 448 at the paper's 384.
    larger = round(resolution * 7 / 6)
    return {
        'data.name': self.builder,
        'data.label_key': self.label_key,
        'data.label_rule': self.label_rule,
        'data.pixel_factor': self.pixel_factor,
        'data.image_size': (resolution, resolution),
        'data.train.resize': (larger, larger) if crops else (),
        'data.train.crop': 'random' if crops else 'none',
        'data.train.flip': self.flip and preset == 'paper',
        **self._splits(stage, variant, sizes)}

  def _splits(self, stage, variant, sizes):
    of = self.subsets(sizes)
    full = variant == 'full'
    if stage == 'search':
      names = ('train', 'val', '') if full else ('train800', 'val200', '')
    else:
      names = ('trainval' if full else 'train800val200', '', 'test')
    keys = ('data.train_split', 'data.val_split', 'data.test_split')
    return {key: of[name] if name else ''
            for key, name in zip(keys, names, strict=True)}


_FIXED = dict(crop=False, flip=False)

TASKS = {task.name: task for task in (
    Task('caltech101', 'natural', 'caltech101:3.*.*', 102),
    Task('cifar100', 'natural', 'cifar100:3.*.*', 100),
    Task('dtd', 'natural', 'dtd:3.*.*', 47),
    Task('oxford_flowers102', 'natural', 'oxford_flowers102:2.*.*', 102),
    # 3.x of older TFDS and 4.x; a name without version would find the newest alone.
    Task('oxford_iiit_pet', 'natural', 'oxford_iiit_pet:*.*.*', 37),
    Task('sun397', 'natural', 'sun397/tfds:4.*.*', 397),
    Task('svhn', 'natural', 'svhn_cropped:3.*.*', 10),
    Task('patch_camelyon', 'specialized', 'patch_camelyon:2.*.*', 2),
    Task('eurosat', 'specialized', 'eurosat/rgb:2.*.*', 10),
    Task('resisc45', 'specialized', 'resisc45:3.*.*', 45),
    Task('diabetic_retinopathy', 'specialized',
         'diabetic_retinopathy_detection/btgraham-300:3.*.*', 5),
    Task('clevr_count', 'structured', 'clevr:3.*.*', 8,
         label_rule='clevr_count', crop=False),
    Task('clevr_distance', 'structured', 'clevr:3.*.*', 6,
         label_rule='clevr_distance', crop=False),
    Task('dmlab', 'structured', 'dmlab:2.*.*', 6, crop=False),
    Task('kitti_distance', 'structured', 'kitti:3.*.*', 4,
         label_rule='kitti_distance', crop=False),
    Task('dsprites_location', 'structured', 'dsprites:2.*.*', 16,
         label_rule='dsprites_x_position', pixel_factor=255, **_FIXED),
    Task('dsprites_orientation', 'structured', 'dsprites:2.*.*', 16,
         label_rule='dsprites_orientation', pixel_factor=255, flip=False),
    Task('smallnorb_azimuth', 'structured', 'smallnorb:2.*.*', 18,
         label_key='label_azimuth', flip=False),
    Task('smallnorb_elevation', 'structured', 'smallnorb:2.*.*', 9,
         label_key='label_elevation'),
)}
