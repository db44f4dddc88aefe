"""Masked patch prediction against a NumPy version written from the paper's text."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import config as config_lib
from vit_jax.config.sections import (
    Config,
    MaskedPatchesSection,
    ModelSection,
    PreprocessSection,
)
from vit_jax.models import layout, variants
from vit_jax.objectives import corruption, patch_targets
from vit_jax.objectives.masked_patches import MaskedPatches
from vit_jax.runtime.errors import UserError
from vit_jax.training.checks import check_run
from vit_jax.training.loop import train

MODEL = ModelSection(
    variant='', patch_size=(4, 8), width=16, depth=1, mlp_dim=32, num_heads=2,
    pool='none', class_token='yes', mask_embedding=True)
SIZE = (12, 16)  # 3 x 2 patches
RNG = np.random.default_rng(0)


def settings(target='mean_colour', **model):
  return dataclasses.replace(
      Config(), total_steps=1, objective='masked_patches',
      model=dataclasses.replace(MODEL, **model),
      data=dataclasses.replace(Config().data, image_size=SIZE),
      masked_patches=MaskedPatchesSection(target=target))


def objective(config):
  model = variants.from_section(
      config.model, MaskedPatches.num_outputs(config, 10), 'cpu')
  return MaskedPatches(config, model, 10, PreprocessSection())


def patches_by_hand(image):
  """The patches of one image (H, W, 3), row by row."""
  return [image[i:i + 4, j:j + 8] for i in range(0, 12, 4) for j in range(0, 16, 8)]


def colour_by_hand(pixels):
  """Mean of pixels (h, w, 3) in 0..255 with 3 bits a channel: one of 512 colours."""
  red, green, blue = (min(int(np.mean(pixels[..., c]) // 32), 7) for c in range(3))
  return int(f'{red:03b}{green:03b}{blue:03b}', 2)


def colours_by_hand(patch):
  """The same of the 4 x 4 cells of a patch of 4 x 8 pixels."""
  return [colour_by_hand(patch[i:i + 1, j:j + 2]) for i in range(4)
          for j in range(0, 8, 2)]


def images(count=3):
  pixels = RNG.integers(0, 256, (count, *SIZE, 3)).astype(np.uint8)
  # Whole patches of one colour, also at the ends of the eight levels.
  pixels[0, :4, :8], pixels[0, :4, 8:] = 0, 255
  pixels[0, 4:8, :8], pixels[0, 4:8, 8:] = (31, 32, 100), (224, 223, 64)
  return pixels


def corrupted_by_hand(tokens, sources, mask):
  """Embeddings (L, D) of one image after the corruption."""
  return np.stack([mask if s < 0 else tokens[s] for s in sources])


def test_targets():
  pixels = images()
  cut = patch_targets.patches(((pixels * (2 / 255) - 1) + 1) / 2, (4, 8))
  by_hand = [patches_by_hand(image) for image in pixels]
  np.testing.assert_allclose(cut * 255, by_hand, atol=1e-3)
  np.testing.assert_array_equal(
      patch_targets.mean_colour(cut),
      [[colour_by_hand(patch) for patch in patches] for patches in by_hand])
  np.testing.assert_array_equal(
      patch_targets.colours(cut),
      [[colours_by_hand(patch) for patch in patches] for patches in by_hand])


def test_shares_of_the_corruption():
  B, L = 2000, 10
  source, corrupted = map(np.asarray, corruption.corrupt(
      jax.random.key(1), (B, L), MaskedPatchesSection()))
  own = np.arange(L)
  assert (corrupted.sum(axis=1) == 5).all()
  assert (source[~corrupted] == np.broadcast_to(own, (B, L))[~corrupted]).all()
  # Every patch is as likely as any other to be corrupted: 1,000 +- 22 times.
  assert np.abs(corrupted.sum(axis=0) - 1000).max() < 100
  masked = source == corruption.MASK
  other = ~masked & (source != own)
  kept = corrupted & ~masked & ~other
  for found, share in ((masked, .8), (other, .1), (kept, .1)):
    assert abs(found.sum() / (B * 5) - share) < 0.015
  # Any other patch of the image, equally often.
  further = np.bincount((source - own)[other] % L, minlength=L)
  assert further[0] == 0 and further[1:].min() > 0.6 * further[1:].mean()


@pytest.mark.parametrize('share, count', [(0.15, 1), (0.5, 3), (1.0, 6), (0.01, 1)])
def test_number_of_corrupted_patches(share, count):
  section = MaskedPatchesSection(share=share, masked=1.0, replaced=0.0)
  source, corrupted = corruption.corrupt(jax.random.key(0), (4, 6), section)
  assert (np.asarray(corrupted).sum(axis=1) == count).all()
  assert ((np.asarray(source) == corruption.MASK) == np.asarray(corrupted)).all()


def test_model_embeds_the_sources():
  model = variants.from_section(MODEL, 4, 'cpu')
  params = layout.init(model, jax.random.key(0), SIZE)
  model = model.with_options(depth=0)
  pixels = np.float32(RNG.uniform(-1, 1, (2, *SIZE, 3)))
  sources = np.array([[0, -1, 2, 1, 4, -1], [5, 1, -1, 3, 0, 5]])
  _, plain = model.apply({'params': params}, pixels)
  _, corrupted = model.apply({'params': params}, pixels, corruption=sources)
  tokens = np.asarray(plain['patch_embedding']).reshape(2, 6, 16)
  np.testing.assert_allclose(
      np.asarray(corrupted['patch_embedding']).reshape(2, 6, 16),
      [corrupted_by_hand(*pair, params['mask_embedding'][0, 0])
       for pair in zip(tokens, sources, strict=True)], rtol=1e-6)
  without = variants.from_section(
      dataclasses.replace(MODEL, mask_embedding=False), 4, 'cpu')
  with pytest.raises(ValueError, match='mask_embedding'):
    without.apply({'params': params}, pixels, corruption=sources)


class Fixed:
  """A model whose outputs are what it is given as parameters."""
  strides = (4, 8)

  def apply(self, variables, images, train, corruption, rngs=None):
    del images, train, corruption, rngs
    return variables['params'], {}


@pytest.mark.parametrize('target', ['mean_colour', 'colours', 'pixels'])
def test_loss_and_accuracy(target):
  config = settings(target)
  task = MaskedPatches(config, Fixed(), 10, PreprocessSection())
  C = MaskedPatches.num_outputs(config, 10)
  assert C == {'mean_colour': 512, 'colours': 8192, 'pixels': 96}[target]
  pixels = images()
  outputs = np.float32(RNG.normal(size=(3, 7, C)))  # a class token and 6 patches
  normalised = [[np.float64(p) / 255 * 2 - 1 for p in patches_by_hand(image)]
                for image in pixels]
  if target == 'pixels':
    outputs[:, 1:3] = [[patch.reshape(-1) for patch in patches[:2]]
                       for patches in normalised]
  else:
    for b, image in enumerate(pixels):
      for i, patch in enumerate(patches_by_hand(image)[:2]):
        right = ([colour_by_hand(patch)] if target == 'mean_colour'
                 else colours_by_hand(patch)[:7])
        outputs[b, 1 + i].reshape(-1, 512)[range(len(right)), right] += 50
  examples = task.prepare({'image': jnp.asarray(pixels)}, jax.random.key(2))
  loss, metrics = jax.jit(task.loss)(outputs, examples, None)

  losses, hits = [], []
  for b, image in enumerate(pixels):
    for i in np.flatnonzero(examples['corrupted'][b]):
      output, patch = np.float64(outputs[b, 1 + i]), patches_by_hand(image)[i]
      if target == 'pixels':
        losses.append(np.mean((output.reshape(4, 8, 3) - normalised[b][i]) ** 2))
        predicted = (output.reshape(4, 8, 3) + 1) / 2 * 255
        hits.append(colour_by_hand(predicted + 1e-3) == colour_by_hand(patch))
        continue
      right = ([colour_by_hand(patch)] if target == 'mean_colour'
               else colours_by_hand(patch))
      for logits, c in zip(output.reshape(-1, 512), right, strict=True):
        losses.append(np.log(np.exp(logits).sum()) - logits[c])
        hits.append(logits.argmax() == c)
  assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)
  assert float(metrics['accuracy']) == pytest.approx(np.mean(hits), abs=1e-6)
  assert 0 < np.mean(hits) < 1


def test_evaluation_depends_on_the_image_alone():
  task = objective(settings())
  params = layout.init(task.model, jax.random.key(0), SIZE)
  params['head']['kernel'] = jax.random.normal(jax.random.key(1), (16, 512))
  pixels = images(4)
  step = jax.jit(task.eval_step)
  def sums(rows, mask):
    return step(params, {'image': jnp.asarray(pixels[rows]), 'mask': np.array(mask)})
  whole = sums([0, 1, 2, 3], [True, True, True, False])
  parts = [sums([i] * 4, [True] + [False] * 3) for i in range(3)]
  for name, value in whole.items():
    assert float(value) == pytest.approx(sum(float(p[name]) for p in parts), rel=1e-5)
  measured = task.summarise({k: float(v) for k, v in whole.items()}, 'digits[test]')
  assert set(measured) == set(MaskedPatches.metrics)
  with pytest.raises(UserError, match='no images'):
    task.summarise(dict.fromkeys(whole, 0.0), 'digits[test]')


@pytest.mark.parametrize('values, match', [
    ({'model.pool': 'gap'}, "config.model.pool='gap'"),
    ({'model.mask_embedding': False}, 'config.model.mask_embedding=False'),
    ({'masked_patches.masked': 0.95}, 'their sum must be at most 1'),
    ({'masked_patches.share': 0.0}, r'masked_patches.share .*must be in \(0, 1\]'),
    ({'masked_patches.target': 'hue'}, 'masked_patches.target'),
    ({'masked_patches.target': 'colours', 'model.patch_size': (6, 8)}, '6 x 8 pixels'),
    ({'mixup.alpha': 0.2}, 'mixes no images'),
])
def test_impossible_settings(values, match):
  with pytest.raises(UserError, match=match):
    check_run(config_lib.with_values(settings(), values))


def test_other_models_have_no_patches():
  config = dataclasses.replace(settings(), model=ModelSection(
      'Mixer-B/16', pool='none', mask_embedding=True))
  with pytest.raises(UserError, match="A Mixer has no option 'pool'"):
    MaskedPatches.check(config)


@pytest.mark.slow
def test_fine_tuning_after_it(tmp_path, capsys):
  """The head and the mask embedding go, the class token and the blocks stay."""
  masked = dataclasses.replace(
      settings(patch_size=(4, 4)), total_steps=2, batch_size=8,
      data=dataclasses.replace(Config().data, image_size=(8, 8), max_examples=16))
  measured = train(masked, str(tmp_path / 'masked'))
  assert set(measured) == {'test/accuracy', 'test/loss'}
  fine = config_lib.with_values(masked, {
      'objective': 'classification', 'model.pool': 'token',
      'model.mask_embedding': False, 'init.checkpoint': str(tmp_path / 'masked')})
  capsys.readouterr()
  train(fine, str(tmp_path / 'fine'))
  report = capsys.readouterr().out
  assert re.search(r'ignored: mask_embedding \(1, 1, 16\): dropped', report)
  assert re.search(r'ignored: head/kernel \(16, 512\)', report)
  assert re.search(r'initialised anew: head/kernel \(16, 10\)', report)
  assert 'cls' not in report
