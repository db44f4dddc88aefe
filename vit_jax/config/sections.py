"""Typed sections of a run's configuration.

A config file returns an `ml_collections.ConfigDict`; `vit_jax.config` completes
and checks it and turns it into the frozen dataclasses below. No code past that
boundary sees a `ConfigDict`. The defaults here are the defaults of every run.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelSection:
  """Which model to build; options that its class doesn't have keep their defaults."""
  # '<size>/<patch>' such as 'B/16', a hybrid 'R50+B/16', 'Mixer-B/16' or a ResNet
  # 'R50x1'; '' is a ViT with all its sizes from the fields below.
  variant: str = 'S/16'
  # Sizes that replace the variant's own; 0 or () keeps the variant's.
  width: int = 0
  depth: int = 0
  mlp_dim: int = 0
  num_heads: int = 0
  patch_size: tuple = ()
  # MLP width across tokens; Mixer only.
  token_mlp_dim: int = 0
  # Channels of the root of a ResNet, alone or in front of a ViT's patches.
  resnet_width: int = 0
  # Units of the ResNet's blocks, such as (3, 4, 6, 3).
  resnet_blocks: tuple = ()
  # 'token' (class token), 'gap' (mean over patches), 'map' (attention pooling)
  # or 'none' (all tokens).
  pool: str = 'token'
  # The last norm after pooling instead of before it.
  pool_norm: bool = False
  # Width of the tanh layer before the head; 0: no such layer.
  representation_size: int = 0
  # 'yes', 'no' or 'auto' (only for pool 'token').
  class_token: str = 'auto'
  # Extra tokens after the class token.
  registers: int = 0
  # 'learned' or 'sincos2d'.
  position_embedding: str = 'learned'
  # Tokens before the patches that have positions: 'class', 'all' or 'none'.
  position_prefix: str = 'class'
  # Bias of the patch embedding.
  patch_bias: bool = True
  # A norm between the positions and the blocks.
  pre_norm: bool = False
  # Biases of queries, keys and values.
  qkv_bias: bool = True
  # A norm over the head size of queries and keys.
  qk_norm: bool = False
  # Initial factor of every residual branch; 0: no such parameters.
  layer_scale: float = 0.0
  dropout: float = 0.0
  attention_dropout: float = 0.0
  # Drop rate of the last block; earlier blocks scale linearly from 0.
  stochastic_depth: float = 0.0
  head_bias_init: float = 0.0
  layer_norm_eps: float = 1e-6
  # 'tanh' (as in the original code), 'exact' (erf) or 'quick' (logistic).
  gelu: str = 'tanh'
  # Eps of the ResNet's norms and standardised kernels; 0: as in the original code.
  group_norm_eps: float = 0.0
  std_conv_eps: float = 0.0
  # Eps 'add'ed to the standard deviation, or to the variance before the 'sqrt';
  # 'auto': as in the original code.
  std_conv_eps_form: str = 'auto'
  # Compute dtype; 'auto' is bfloat16 on TPU and GPU, float32 on CPU.
  dtype: str = 'auto'
  param_dtype: str = 'float32'
  # True: one compiled block, applied `depth` times by a scan.
  scan: bool = False
  # What the backward pass recomputes: 'none' (nothing), 'full' (everything),
  # 'dots' (all but matrix products), 'dots_no_batch' (all but matrix products
  # without batch dims).
  remat: str = 'none'
  # Form of the products of a block: '2d' of matrices, with all tokens in one dim; '3d'
  # with dims as they are, batch, tokens, heads and head size; 'auto' picks by platform
  # and head size. The parameters and the results are the same.
  projection: str = 'auto'
  # Of the attention weights before they are rounded to `dtype`: 'float32', or 'compute'
  # for `dtype` itself, as in big_vision. With bfloat16 on TPUs that spares an estimated
  # 7 % of a step of S/16, and rounds the exponentials and their sum.
  softmax_dtype: str = 'float32'


@dataclasses.dataclass(frozen=True)
class PreprocessSection:
  """From a decoded image to `data.image_size`, in the order of the fields."""
  # Resize to this (height, width) first, aspect ratio not kept; (): skip.
  resize: tuple = ()
  # Resize the shorter side to this many pixels first; 0: skip.
  resize_small: int = 0
  # 'none' (resize to `data.image_size`, aspect ratio not kept), 'inception',
  # 'random' or 'central'.
  crop: str = 'none'
  # 'random' only: zero pixels added on each side before the crop.
  pad: int = 0
  # 'inception' only: range of the crop's share of the area and of its aspect
  # ratio (width / height).
  crop_area: tuple = (0.05, 1.0)
  crop_ratio: tuple = (0.75, 4 / 3)
  # Mirror left to right with probability one half.
  flip: bool = False
  # RandAugment: operations per image (0: none), their strength from 0 to 30, and the
  # grey that Contrast moves away from: -1 for the image's mean, 196 as in AugReg, see
  # `vit_jax/preprocessing/host/randaugment.py`. Such splits are always streamed.
  randaugment_layers: int = 0
  randaugment_magnitude: float = 10.0
  randaugment_grey: int = -1
  # Colour jitter: strengths of brightness, contrast, saturation and hue, in random
  # order; (): none. Then greyscale. Each has its probability.
  jitter: tuple = ()
  jitter_probability: float = 1.0
  greyscale: float = 0.0
  # Random erasing: probability, ranges of the rectangle's share of the area and of
  # its aspect ratio (height / width), and 'zero' or 'noise' to fill it with.
  erase: float = 0.0
  erase_area: tuple = (0.02, 0.4)
  erase_ratio: tuple = (0.3, 1 / 0.3)
  erase_fill: str = 'zero'
  # 'bilinear', 'bicubic' or 'area'; antialiasing when shrinking.
  method: str = 'bilinear'
  antialias: bool = False


@dataclasses.dataclass(frozen=True)
class DataSection:
  """Which examples, and how they become model inputs."""
  # A TFDS name ('cifar10', 'sun397/tfds:4.*.*'), 'digits', or 'folder'.
  name: str = 'digits'
  # TFDS data directory ('': the TFDS default), or the image folder's root.
  dir: str = ''
  # Splits in TFDS slicing syntax; '' for no such split.
  train_split: str = 'train'
  val_split: str = ''
  test_split: str = 'test'
  # Only the first so many examples of every split; 0: all.
  max_examples: int = 0
  # (height, width) of the model's input.
  image_size: tuple = (224, 224)
  image_key: str = 'image'
  # The feature with the label: a class, or a sequence of classes.
  label_key: str = 'label'
  # Computes the label from other features instead: '' (don't), a row of the table in
  # `vit_jax/data/labels.py` such as 'clevr_count', or 'package.module:name'.
  label_rule: str = ''
  # Above 0, an image has a set of up to this many classes; 0: exactly one.
  max_labels: int = 0
  # Factor of stored pixel values that do not fill 0..255; dSprites has 0 and 1: 255.
  pixel_factor: int = 1
  # Pixel values 0..255 are mapped linearly onto this range.
  value_range: tuple = (-1.0, 1.0)
  train: PreprocessSection = PreprocessSection()
  eval: PreprocessSection = PreprocessSection()
  # Decode once and keep in memory: 'auto' (when it fits), 'always', 'never'.
  cache: str = 'auto'
  cache_limit_gib: float = 2.0
  # Unreadable records to skip (and count) before the run stops.
  max_bad_records: int = 0
  # Threads of the decoder; 0: chosen by tf.data.
  decode_threads: int = 0


@dataclasses.dataclass(frozen=True)
class OptimizerSection:
  """The update rule, applied to clipped gradients."""
  # 'sgd', 'adam', 'adamw' or 'adafactor'.
  name: str = 'adam'
  # Peak learning rate; `schedule` scales it.
  learning_rate: float = 1e-3
  # Global norm that gradients are clipped to; 0: no clipping.
  clip_norm: float = 1.0
  weight_decay: float = 0.0
  # Regular expression of the parameter paths that decay.
  weight_decay_mask: str = r'.*/kernel'
  # 'sgd'.
  momentum: float = 0.9
  nesterov: bool = False
  # 'adam', 'adamw', 'adafactor', where b1 = 0 means no momentum and b2 caps the
  # decay of the second moment.
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  # dtype of the first moment: 'float32' or 'bfloat16'.
  moment_dtype: str = 'float32'
  # ('regex of parameter paths', factor) pairs, first match wins; 0 freezes.
  lr_multipliers: tuple = ()


@dataclasses.dataclass(frozen=True)
class ScheduleSection:
  """Learning-rate factor over the steps of the run."""
  # 'constant', 'linear', 'cosine', 'rsqrt' or 'piecewise'.
  name: str = 'cosine'
  warmup_steps: int = 0
  # Linear descent to zero over the last steps; 0: none.
  cooldown_steps: int = 0
  # Learning rate at the end of 'linear' and 'cosine'.
  end_learning_rate: float = 0.0
  # 'rsqrt' only: steps until the rate has fallen by sqrt(2).
  timescale: int = 10_000
  # 'piecewise' only: the rate is multiplied by `drop_factor` after each of these
  # shares of the run.
  drop_at: tuple = (0.3, 0.6, 0.9)
  drop_factor: float = 0.1


@dataclasses.dataclass(frozen=True)
class LossSection:
  # 'softmax' or 'sigmoid' cross-entropy.
  name: str = 'softmax'
  label_smoothing: float = 0.0


@dataclasses.dataclass(frozen=True)
class MixupSection:
  """How every batch is mixed: MixUp, CutMix, or one of them at random."""
  # Beta(alpha, alpha) of MixUp's weight; 0: no MixUp.
  alpha: float = 0.0
  # Beta(cutmix_alpha, cutmix_alpha) of the area that CutMix keeps; 0: no CutMix.
  cutmix_alpha: float = 0.0
  # Where both are on: probability of CutMix instead of MixUp.
  cutmix_probability: float = 0.5


@dataclasses.dataclass(frozen=True)
class MeshSection:
  """Devices along each mesh axis; -1 takes what the other axis leaves."""
  # Replicas of the state.
  data: int = -1
  # Devices over which one replica is divided; 0: 1 for a state that is small beside
  # the memory, else as few as suit the slice, see `vit_jax/parallel/choice.py`.
  fsdp: int = 0


@dataclasses.dataclass(frozen=True)
class CheckpointSection:
  # Steps between checkpoints; the last step is always saved.
  every: int = 1000
  # How many of the newest checkpoints to keep.
  keep: int = 2
  # Also keep the checkpoint that scores best on this metric, e.g.
  # 'test/accuracy'; '': none. Higher is better unless `best_mode` is 'min'.
  best_metric: str = ''
  best_mode: str = 'max'


@dataclasses.dataclass(frozen=True)
class InitSection:
  """Where the first parameters come from, see docs/checkpoints.md."""
  # A work directory, a checkpoint of any format, or 'augreg:B_16' for a published
  # AugReg model; '': random.
  checkpoint: str = ''
  # Folder or URL of the AugReg files and their index.csv, such as a local mirror.
  augreg_bucket: str = 'gs://vit_models/augreg'
  # The checkpoint's head: 'auto' keeps one that fits, 'keep', 'reset' (to zeros).
  head: str = 'auto'
  # Its layer before the head, if the model has none: 'drop', or 'keep' (an error).
  pre_logits: str = 'drop'
  # How positions are resized to a new grid: 'original', 'hf', 'timm', 'timm_npz', or
  # 'auto' for that of the code base the checkpoint comes from.
  position_resize: str = 'original'
  # (height, width) of the checkpoint's grid of patches, where the file can't say.
  position_grid: tuple = ()


@dataclasses.dataclass(frozen=True)
class EvaluatorSection:
  """One more evaluation, beside those of `data.val_split` and `data.test_split`."""
  # Names the results, such as 'real' in 'real/accuracy'.
  name: str = ''
  # 'classify' (the model's own head), or on frozen features: 'fewshot' (least squares
  # on a few images per class), 'probe' (logistic regression), 'knn'.
  kind: str = 'classify'
  # Only at every n-th evaluation of a training, and at its end.
  every: int = 1
  # Global batch; 0: `eval_batch_size`.
  batch_size: int = 0
  # Another data set as in `DataSection.name`, whose keys and splits have their
  # defaults unless given here; '': that of the run.
  data: str = ''
  # These replace the fields of `DataSection` unless they are '' or 0.
  dir: str = ''
  image_key: str = ''
  label_key: str = ''
  label_rule: str = ''
  max_labels: int = 0
  pixel_factor: int = 0
  # Of frozen features; 'classify' does not train.
  train_split: str = ''
  test_split: str = ''
  # Which intermediate of the model the features are; tokens are averaged.
  layer: str = 'pre_logits'
  # 'fewshot': images per class, and how many draws of them are averaged.
  shots: tuple = (1, 5, 10, 25)
  seeds: int = 3
  # 'fewshot', 'probe': strengths of the regularisation to choose from; (): those of
  # the kind, see `vit_jax/evaluators/`.
  l2: tuple = ()
  # 'fewshot', 'probe': how many training images choose among them, at most.
  held_out: int = 5000
  # 'probe': iterations of L-BFGS, at most.
  max_iter: int = 1000
  # 'knn': neighbours that vote, and the temperature of their weights.
  k: int = 20
  temperature: float = 0.07


@dataclasses.dataclass(frozen=True)
class ProfileSection:
  """A profiler trace under WORKDIR/profile; `steps` = 0 takes none."""
  start: int = 10
  steps: int = 0


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything that defines a run. Exactly one of the totals is positive."""
  seed: int = 0
  total_steps: int = 0
  total_epochs: float = 0.0
  # Examples per step over all devices of all processes.
  batch_size: int = 512
  # Each batch is processed in this many parts whose gradients are averaged.
  accum_steps: int = 1
  # Decay of the exponential moving average of the parameters; 0: none.
  ema_decay: float = 0.0
  log_every: int = 50
  # Steps between evaluations; 0: only after the last step.
  eval_every: int = 0
  # Global batch of the evaluations; 0: `batch_size`.
  eval_batch_size: int = 0
  # On the CPU backend: keep freed memory in the process instead of returning it
  # to the system after each step. Faster steps, higher peak memory.
  keep_host_memory: bool = False
  # (name, value) pairs of texts for the compiler of the train and evaluation steps;
  # options named after another backend than the one at hand are left out.
  xla_options: tuple = ()
  # A file that `vit_jax plan --tune` wrote: its settings come before those of the
  # command line. '': none.
  tuned: str = ''
  model: ModelSection = ModelSection()
  data: DataSection = DataSection()
  optimizer: OptimizerSection = OptimizerSection()
  schedule: ScheduleSection = ScheduleSection()
  loss: LossSection = LossSection()
  mixup: MixupSection = MixupSection()
  mesh: MeshSection = MeshSection()
  checkpoint: CheckpointSection = CheckpointSection()
  init: InitSection = InitSection()
  profile: ProfileSection = ProfileSection()
  evaluators: tuple[EvaluatorSection, ...] = ()
