"""Tiny complete runs for the end-to-end tests."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

from vit_jax.runtime.ports import reserved_port

# A config file as a user would write it; a few steps take about a second.
CONFIG = '''
from ml_collections import ConfigDict

def get_config():
  return ConfigDict(dict(
      total_steps=10, batch_size=16, log_every=1, eval_every=5,
      model=dict(variant='', patch_size=(4, 4), width=16, depth=2, mlp_dim=32,
                 num_heads=2, pool='gap', dropout=0.1, stochastic_depth=0.1),
      data=dict(name='digits', image_size=(8, 8), test_split='test[:50]',
                train=dict(crop='random', pad=1, flip=True)),
      optimizer=dict(name='sgd', learning_rate=0.1, moment_dtype='bfloat16'),
      schedule=dict(name='cosine', warmup_steps=2),
      mixup=dict(alpha=0.2), ema_decay=0.9,
      checkpoint=dict(every=5, keep=3)))
'''


def write_config(folder) -> str:
  path = pathlib.Path(folder) / 'tiny_config.py'
  path.write_text(CONFIG)
  return str(path)


def command(*words, devices=1, **popen):
  """Starts `vit_jax ...` in a process of its own with simulated devices."""
  env = dict(os.environ)
  env['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={devices}'
  if devices > 1:
    # Many simulated devices on few cores: compiling would take a minute.
    env['XLA_FLAGS'] += ' --xla_backend_optimization_level=0'
  return subprocess.Popen(
      [sys.executable, '-m', 'vit_jax', *words], env=env, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)


@contextlib.contextmanager
def process_flags(count):
  """The flags of each of several processes; while entered, nobody takes their port."""
  with reserved_port() as port:
    yield [(f'--coordinator_address=localhost:{port}', f'--num_processes={count}',
            f'--process_id={i}') for i in range(count)]


def finish(process, status=0):
  """(stdout, stderr) of a process that ends with `status`."""
  out, err = process.communicate(timeout=300)
  assert process.returncode == status, f'{process.returncode}\n{out}\n{err}'
  return out, err


def metrics(workdir) -> list:
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def losses(workdir) -> dict:
  return {row['step']: row['train/loss'] for row in metrics(workdir)
          if 'train/loss' in row}
