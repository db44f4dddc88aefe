"""Pre-training on images with several labels each, as the ViT paper did on JFT-300M.

Command    vit_jax train --config=configs/multilabel.py:DATA,B/16 --workdir=runs/b16
Argument   the TFDS name of your own data set, and B/16, B/32, L/16, L/32 or H/14
Data       a uint8 image and a sequence of classes, such as TFDS's voc/2007; other names
           than `image` and `labels`: --config.data.image_key, --config.data.label_key
Slice      64 to 512 TPU chips; published for JFT-300M, in TPU v3 core-days: H/14 2,500,
           L/16 680 (table 2)
Batch      4,096 at 224 pixels
Steps      7 epochs of B and L/32, 14 of L/16 and H/14 (table 3)
Score      of JFT-300M, after fine-tuning on ImageNet-1k: H/14 88.55, L/16 87.76
           (published, table 2); of your data: unknown
Measured   by us: no

Every class is a yes or no of its own (sigmoid), and the head's bias of -10 starts with
all of them at no. Decay is multiplied by the rate, as in the paper's code. Gradients
are not clipped, which table 3 has for ImageNet alone.
"""

from typing import Any

from ml_collections import ConfigDict

from vit_jax.config import argument

# Model -> (epochs, learning rate, width).
_MODELS = {
    'B/16': (7.0, 8e-4, 768),
    'B/32': (7.0, 8e-4, 768),
    'L/16': (14.0, 4e-4, 1024),
    'L/32': (7.0, 6e-4, 1024),
    'H/14': (14.0, 3e-4, 1280),
}


def get_config(arg: str = 'voc/2007') -> ConfigDict:
  """`arg` is the name of the data set and, after a comma, the model."""
  name, _, rest = arg.partition(',')
  words = argument.parse(rest, model=tuple(_MODELS))
  epochs, rate, width = _MODELS[words.model]
  config: Any = ConfigDict()
  config.total_epochs = epochs
  config.batch_size = 4096
  config.log_every = 50
  config.eval_every = 5000

  config.model = ConfigDict(dict(
      variant=words.model, representation_size=width, head_bias_init=-10.0))
  config.loss = ConfigDict(dict(name='sigmoid'))

  config.data = ConfigDict(dict(
      name=name, train_split='train', val_split='validation', test_split='test',
      label_key='labels',
      # More labels on an image are an error that says how many there are.
      max_labels=32, image_size=(224, 224)))
  config.data.train = ConfigDict(dict(crop='inception', flip=True))
  config.data.eval = ConfigDict(dict(resize_small=256, crop='central', method='area'))

  config.optimizer = ConfigDict(dict(
      name='adamw', learning_rate=rate, b1=0.9, b2=0.999, weight_decay=0.1,
      clip_norm=0.0))
  config.schedule = ConfigDict(dict(name='linear', warmup_steps=10_000))
  config.checkpoint = ConfigDict(dict(every=1000, keep=1))
  return config
