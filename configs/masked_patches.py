"""Pre-training without labels, by masked patch prediction (arXiv 2010.11929, B.1.2).

Command    vit_jax train --config=configs/masked_patches.py --workdir=runs/masked
Argument   imagenet21k (default), the TFDS name of your own data, or digits
Slice      64 TPU chips; digits: two CPU cores, about a minute
Batch      4,096 at 224 pixels; digits: 64
Steps      1,000,000 of B/16, "ca. 14 epochs" of JFT-300M; digits: 3,000. The paper
           found little gain after 100,000 steps, and similar ones from ImageNet
Score      fine-tuned on ImageNet-1k: 79.9% top-1, 2% above training from scratch and 4%
           below supervised pre-training (published, section 4.6)
Measured   of the digits alone, see docs/recipes.md
Data       imagenet21k, from your own download: vit_jax/data/imagenet21k.py. Your own:
           as for configs/multilabel.py; its labels are not looked at
Then       vit_jax train --config=configs/finetune.py:imagenet --workdir=runs/fine \\
               --config.init.checkpoint=runs/masked

Half of the patch embeddings are corrupted: 80% of them are a learned mask embedding,
10% another patch's, 10% as they are. The 3-bit mean colour of each is predicted from
its own token. The paper also tried 4 x 4 colours and the pixels, slightly worse
(--config.masked_patches.target=colours or pixels), and to corrupt 15%, slightly worse.
Adam at 2e-4, 10,000 steps of warm-up and the cosine are stated; decay, dropout,
clipping and augmentation are not: there are none of the first three, and the crops and
flips of the other pre-training. Fine-tuning drops the head and the mask embedding and
keeps the class token.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(data: str = 'imagenet21k') -> ConfigDict:
  """`data` is 'imagenet21k', 'digits', or the name of a data set of your own."""
  config: Any = ConfigDict()
  config.objective = 'masked_patches'
  config.optimizer = ConfigDict(dict(name='adam', learning_rate=2e-4, clip_norm=0.0))
  config.log_every = 50
  if data == 'digits':
    _digits(config)
    return config
  config.total_steps = 1_000_000
  config.batch_size = 4096
  config.eval_every = 5000
  config.model = ConfigDict(dict(
      variant='B/16', pool='none', class_token='yes', mask_embedding=True))
  if data == 'imagenet21k':
    config.data = ConfigDict(dict(
        name=data, train_split='full[51200:]', val_split='full[25600:51200]',
        test_split='full[:25600]'))
  else:
    config.data = ConfigDict(dict(
        name=data, train_split='train', val_split='validation', test_split='test',
        label_key='labels', max_labels=32))
  config.data.image_size = (224, 224)
  config.data.train = ConfigDict(dict(crop='inception', flip=True))
  config.data.eval = ConfigDict(dict(resize_small=256, crop='central', method='area'))
  config.schedule = ConfigDict(dict(name='cosine', warmup_steps=10_000))
  config.checkpoint = ConfigDict(dict(every=1000, keep=1))
  return config


def _digits(config: Any) -> None:
  """The model and the images of configs/digits.py; a higher rate for so short a run."""
  config.total_steps = 3000
  config.batch_size = 64
  config.eval_every = 500
  config.keep_host_memory = True
  config.model = ConfigDict(dict(
      variant='', patch_size=(4, 4), width=64, depth=4, mlp_dim=256, num_heads=4,
      pool='none', position_embedding='sincos2d', mask_embedding=True, scan=True))
  config.data = ConfigDict(dict(name='digits', image_size=(16, 16)))
  config.data.train = ConfigDict(dict(
      resize=(64, 64), crop='inception', crop_area=(0.6, 1.0),
      crop_ratio=(0.8, 1.25)))
  config.optimizer.learning_rate = 1e-3
  config.schedule = ConfigDict(dict(name='cosine', warmup_steps=150))
  config.checkpoint = ConfigDict(dict(every=500, keep=1))
