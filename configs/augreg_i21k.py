"""Pre-training on ImageNet-21k with AugReg (arXiv 2106.10270).

Command    vit_jax train --config=configs/augreg_i21k.py:B/16 --workdir=runs/b16_augreg
Argument   a model, a level of augmentation and a regularisation, in any order:
           configs/augreg_i21k.py:L/16,strong1,reg. Left out, they are those of the
           published checkpoint that the study recommends for the model.
Levels     none, light1, light2, medium1, medium2, strong1, strong2
           (MixUp alpha, RandAugment layers and magnitude: the table below)
Reg        reg: dropout and stochastic depth 0.1; noreg: neither
Slice      8 to 64 TPU chips up to B/16, 64 to 256 for L/16; RandAugment takes about
           5 ms of a host core per image
Batch      4,096 at 224 pixels
Steps      300 epochs of 14.1 million images: about 1,030,000. The study trained for 7
           to 300 epochs: --config.total_epochs=30.0
Score      fine-tuned on ImageNet-1k at 384 pixels: L/16 85.59, B/16 85.49, S/16 83.73,
           Ti/16 78.22, B/32 83.59, S/32 79.58, R50+L/32 85.99, R26+S/32 83.85, R+Ti/16
           75.40 (published, README of the original code)
Measured   by us: no
Data       imagenet21k, from your own download: vit_jax/data/imagenet21k.py

Decay is multiplied by the rate here as in the study's file names: 0.1 or 0.03 at 1e-3,
the 1e-4 or 3e-5 per step of other code.
"""

from typing import Any

from ml_collections import ConfigDict

from vit_jax.config import argument

# Level -> (MixUp's alpha, RandAugment's layers, its magnitude). Magnitude 0 still
# changes images.
_LEVELS = {
    'none': (0.0, 0, 0.0),
    'light1': (0.0, 2, 0.0),
    'light2': (0.2, 2, 10.0),
    'medium1': (0.2, 2, 15.0),
    'medium2': (0.5, 2, 15.0),
    'strong1': (0.5, 2, 20.0),
    'strong2': (0.8, 2, 20.0),
}
# Model -> (level, regularisation, weight decay) of the recommended checkpoint.
_MODELS = {
    'B/16': ('medium1', 'noreg', 0.1),
    'Ti/16': ('none', 'noreg', 0.03),
    'S/32': ('none', 'noreg', 0.1),
    'S/16': ('light1', 'noreg', 0.03),
    'B/32': ('light1', 'noreg', 0.1),
    'L/16': ('strong1', 'noreg', 0.1),
    'R+Ti/16': ('none', 'noreg', 0.03),
    'R26+S/32': ('light1', 'noreg', 0.1),
    'R50+L/32': ('medium1', 'reg', 0.1),
}


def get_config(arg: str = '') -> ConfigDict:
  words = argument.parse(
      arg, model=tuple(_MODELS), level=('recommended', *_LEVELS),
      regularisation=('as recommended', 'reg', 'noreg'))
  level, regularisation, weight_decay = _MODELS[words.model]
  if words.level in _LEVELS:
    level = words.level
  if words.regularisation in ('reg', 'noreg'):
    regularisation = words.regularisation
  alpha, layers, magnitude = _LEVELS[level]
  rate = {'reg': 0.1, 'noreg': 0.0}[regularisation]

  config: Any = ConfigDict()
  config.total_epochs = 300.0
  config.batch_size = 4096
  config.log_every = 50
  config.eval_every = 5000

  config.model = ConfigDict(dict(
      variant=words.model, dropout=rate, stochastic_depth=rate, head_bias_init=-10.0))
  config.loss = ConfigDict(dict(name='sigmoid'))
  config.mixup = ConfigDict(dict(alpha=alpha))

  config.data = ConfigDict(dict(
      name='imagenet21k', train_split='full[51200:]', val_split='full[25600:51200]',
      test_split='full[:25600]', image_size=(224, 224)))
  config.data.train = ConfigDict(dict(crop='inception', flip=True))
  if layers:
    config.data.train.update(dict(
        randaugment_layers=layers, randaugment_magnitude=magnitude,
        randaugment_grey=196))
  config.data.eval = ConfigDict(dict(resize_small=256, crop='central', method='area'))

  config.optimizer = ConfigDict(dict(
      name='adamw', learning_rate=1e-3, b1=0.9, b2=0.999, weight_decay=weight_decay,
      moment_dtype='bfloat16', clip_norm=1.0))
  config.schedule = ConfigDict(dict(name='cosine', warmup_steps=10_000))
  config.checkpoint = ConfigDict(dict(every=1000, keep=1))
  return config
