"""A small ViT from scratch on your own folder of images.

Command   vit_jax train --config=configs/folder.py:/path/to/images --workdir=runs/mine
Layout    /path/to/images/train/<class>/*.jpg, and optionally .../test/<class>/*.jpg;
          a tenth of train is held out to choose the best checkpoint; without a
          test folder: --config.data.test_split=
Slice     one GPU or TPU chip; hours on a CPU
Batch     64
Steps     90 epochs
Score     depends on the images; the settings are those of training from scratch
Measured  no
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(folder: str = 'images') -> ConfigDict:
  """S/16 at 224 pixels with the augmentation of the ImageNet recipes."""
  config: Any = ConfigDict()
  config.total_epochs = 90.0
  config.batch_size = 64
  config.log_every = 20
  config.eval_every = 200

  config.model = ConfigDict(dict(
      variant='S/16', pool='gap', position_embedding='sincos2d',
      stochastic_depth=0.1))

  config.data = ConfigDict(dict(
      name='folder', dir=folder, image_size=(224, 224), train_split='train[:90%]',
      val_split='train[90%:]'))
  config.data.train = ConfigDict(dict(crop='inception', flip=True))
  config.data.eval = ConfigDict(dict(resize_small=256, crop='central', method='area'))

  config.optimizer = ConfigDict(dict(
      name='adamw', learning_rate=5e-4, weight_decay=0.05, clip_norm=1.0))
  config.schedule = ConfigDict(dict(name='cosine', warmup_steps=100))
  config.mixup = ConfigDict(dict(alpha=0.2))

  config.checkpoint = ConfigDict(dict(
      every=200, keep=2, best_metric='val/accuracy'))
  return config
