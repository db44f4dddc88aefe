"""A small ViT from scratch on CIFAR-10 (or `:cifar100`), decoded once into memory.

Command   vit_jax train --config=configs/cifar10.py --workdir=runs/cifar10
Data      prepared by TFDS; when it is missing, the error shows the command
Slice     one GPU or TPU chip
Batch     512
Steps     200 epochs of 98% of train = 19,141; the rest chooses the best checkpoint
Score     nothing published: the settings are ours
Measured  no
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(name: str = 'cifar10') -> ConfigDict:
  """32x32 pixels in patches of 4x4, twelve blocks of width 192."""
  config: Any = ConfigDict()
  config.total_epochs = 200.0
  config.batch_size = 512
  config.log_every = 50
  config.eval_every = 1000

  config.model = ConfigDict(dict(
      variant='Ti/4', pool='gap', position_embedding='sincos2d',
      stochastic_depth=0.1, scan=True))

  config.data = ConfigDict(dict(
      name=name, image_size=(32, 32), train_split='train[:98%]',
      val_split='train[98%:]'))
  config.data.train = ConfigDict(dict(crop='random', pad=4, flip=True))

  config.optimizer = ConfigDict(dict(
      name='adamw', learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0))
  config.schedule = ConfigDict(dict(name='cosine', warmup_steps=1000))
  config.mixup = ConfigDict(dict(alpha=0.2))

  config.checkpoint = ConfigDict(dict(
      every=1000, keep=2, best_metric='val/accuracy'))
  return config
