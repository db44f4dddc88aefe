"""Pre-training on ImageNet-21k as in table 3 of the ViT paper (arXiv 2010.11929).

Command    vit_jax train --config=configs/pretrain_i21k.py:B/16 --workdir=runs/b16_i21k
Argument   B/32, B/16, L/32, L/16 or H/14
Slice      8 to 64 TPU chips for B, 64 to 512 for L and H; published for L/16: about 30
           days on a TPU v3-8
Batch      4,096 at 224 pixels
Steps      90 epochs of 14.1 million images: about 310,000
Score      after fine-tuning on ImageNet-1k with configs/finetune.py: B/32 81.28, B/16
           83.97, L/32 80.99, L/16 85.15, H/14 85.13 (published, table 5)
Measured   by us: no
Data       imagenet21k, from your own download: vit_jax/data/imagenet21k.py

Table 3 has a row for B (90 epochs) and one for L (30 or 90 epochs), both with a rate of
1e-3, decay 0.03 and dropout 0.1; H/14 was pretrained on ImageNet-21k as well, but has
no row and gets that of L. Gradients are clipped on ImageNet alone, says the table, so
not here; --config.optimizer.clip_norm=1.0 does. "Adam with weight decay" is 'adamw':
the paper's code, too, decays parameters by decay times learning rate, apart from the
gradient. The loss is not stated: sigmoid, as in the code for its successor (arXiv
2106.10270). The bias of the head starts at -10, so that the first loss isn't that of
21,843 undecided classes.
"""

from typing import Any

from ml_collections import ConfigDict

from vit_jax.config import argument

# The width of the tanh layer before the head is that of the model.
_WIDTHS = {'B/32': 768, 'B/16': 768, 'L/32': 1024, 'L/16': 1024, 'H/14': 1280}


def get_config(arg: str = '') -> ConfigDict:
  words = argument.parse(arg, model=tuple(_WIDTHS))
  config: Any = ConfigDict()
  config.total_epochs = 90.0
  config.batch_size = 4096
  config.log_every = 50
  config.eval_every = 5000

  config.model = ConfigDict(dict(
      variant=words.model, representation_size=_WIDTHS[words.model], dropout=0.1,
      head_bias_init=-10.0))
  config.loss = ConfigDict(dict(name='sigmoid'))

  config.data = ConfigDict(dict(
      name='imagenet21k', train_split='full[51200:]', val_split='full[25600:51200]',
      test_split='full[:25600]', image_size=(224, 224)))
  config.data.train = ConfigDict(dict(crop='inception', flip=True))
  config.data.eval = ConfigDict(dict(resize_small=256, crop='central', method='area'))

  config.optimizer = ConfigDict(dict(
      name='adamw', learning_rate=1e-3, b1=0.9, b2=0.999, weight_decay=0.03,
      clip_norm=0.0))
  config.schedule = ConfigDict(dict(name='linear', warmup_steps=10_000))
  config.checkpoint = ConfigDict(dict(every=1000, keep=1))
  return config
