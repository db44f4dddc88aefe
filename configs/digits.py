"""A small ViT on scikit-learn's 1,797 handwritten digits: learns on any CPU.

Command   vit_jax train --config=configs/digits.py --workdir=runs/digits
Slice     two CPU cores, about a minute
Batch     64
Steps     1,500
Score     98.6% test accuracy (measured, 359 images) of the checkpoint that is best on
          the tenth of train that is held out
"""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """16x16 pixels in patches of 4x4, four blocks of width 64."""
  config: Any = ConfigDict()
  config.total_steps = 1500
  config.batch_size = 64
  config.log_every = 50
  config.eval_every = 250
  config.ema_decay = 0.99
  config.keep_host_memory = True

  config.model = ConfigDict(dict(
      variant='', patch_size=(4, 4), width=64, depth=4, mlp_dim=256, num_heads=4,
      pool='gap', position_embedding='sincos2d', scan=True))

  config.data = ConfigDict(dict(
      name='digits', image_size=(16, 16), train_split='train[:90%]',
      val_split='train[90%:]'))
  # Digits must not be mirrored; stretching and shifting them is fine. Crops are cut
  # at 64 pixels, as whole pixels of 8x8 or 16x16 images would be too coarse.
  config.data.train = ConfigDict(dict(
      resize=(64, 64), crop='inception', crop_area=(0.6, 1.0),
      crop_ratio=(0.8, 1.25)))

  config.optimizer = ConfigDict(dict(
      name='adamw', learning_rate=3e-3, weight_decay=0.1, b2=0.95, clip_norm=1.0))
  config.schedule = ConfigDict(dict(name='cosine', warmup_steps=150))
  config.loss = ConfigDict(dict(label_smoothing=0.1))

  config.checkpoint = ConfigDict(dict(
      every=250, keep=2, best_metric='val/accuracy'))
  return config
