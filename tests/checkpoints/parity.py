"""Every golden case through `load`: how far are we from the reference's outputs?"""

import golden
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints.load import load
from vit_jax.checkpoints.positions import POSITIONS

# What a file can't say, or what the case changes. All other cases need nothing.
SETTINGS = {
    'vitjax_headless': {'pool': 'none', 'image_size': (32, 48)},
    'vitjax_posembed_resize': {
        'image_size': (48, 48), 'num_classes': 10, 'representation_size': 0},
    'vitjax_posembed_resize_gap': {'image_size': (24, 24), 'num_classes': 10},
    'bv_load_vitjax_file': {'image_size': (40, 40)},
    'hf_vit_interp': {'image_size': (48, 40)},
}
FILES = ('params.npz', 'params_scan.npz', 'model.safetensors',
         'model_v5names.safetensors')
CASES = sorted((path.parent.name, path.name) for file in FILES
               for path in golden.FOLDER.glob(f'*/{file}'))
ATOL, RTOL = 5e-5, 1e-4


def measure(case: str, file: str) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
  """(quantity, ours, the reference's, factor of RTOL) of everything in a case."""
  folder = golden.FOLDER / case
  with np.load(folder / 'io.npz') as arrays:
    io = dict(arrays)
  model, variables = load(folder / file, **SETTINGS.get(case, {}))
  if (folder / 'init_head.npz').exists():
    with np.load(folder / 'init_head.npz') as head:
      variables['params']['head'] = {
          'kernel': head['head/kernel'], 'bias': head['head/bias']}
  if case == 'vitjax_train5':
    return [_first_loss(model, variables, io)]
  if case == 'vitjax_grads':
    return _gradients(model, variables, io, folder)
  logits, out = jax.jit(model.apply)(variables, io['image'])
  reference = io['pooler_output'] if 'pooler_output' in io else io['logits']
  measured = [('logits', np.asarray(logits), reference, 1.0)]
  for name in ('pos_embedding_resized', 'position_embeddings_interpolated'):
    if name in io:
      table = golden.flatten(variables['params'])[POSITIONS]
      measured.append(('positions', np.asarray(table), io[name], 1.0))
  if 'pre_logits' in io:
    measured.append(
        ('pre_logits', np.asarray(out['pre_logits']), io['pre_logits'], 1.0))
  return measured


def _loss(model, images, labels):
  def loss(params):
    logits, _ = model.apply({'params': params}, images)
    picked = jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
    return -picked.mean()
  return loss


def _first_loss(model, variables, io):
  loss = jax.jit(_loss(model, io['images'][0], io['labels'][0]))(variables['params'])
  return 'loss of the first step', np.asarray(loss), io['losses'][0], 1.0


def _gradients(model, variables, io, folder):
  loss = _loss(model, io['image'], io['labels'])
  value, grads = jax.jit(jax.value_and_grad(loss))(variables['params'])
  with np.load(folder / 'grads.npz') as arrays:
    expected = dict(arrays)
  largest = max(np.abs(x).max() for x in expected.values())
  actual = golden.flatten(grads)
  assert actual.keys() == expected.keys()
  # Of the largest gradient 1e-5 is the tolerance, a fifth of the general one.
  scale = 5 * largest
  return [('loss', np.asarray(value), io['loss'], 1.0)] + [
      ('gradients', np.asarray(actual[n]) / scale, expected[n] / scale, 0.0)
      for n in expected]
