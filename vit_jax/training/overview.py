"""What a run is about to do, with its arithmetic, and what it has done."""

import math
from collections.abc import Mapping

import jax

from vit_jax.checkpoints.store import Store
from vit_jax.data import Input
from vit_jax.parallel import rules
from vit_jax.training.job import Job


def describe(job: Job, data_input: Input, workdir: str, start: int) -> str:
  """The page that `train` prints before it starts."""
  config, mesh = job.config, job.mesh
  devices = mesh.devices.flat
  steps_per_epoch = data_input.num_examples / config.batch_size
  epochs = job.total_steps / steps_per_epoch
  per_device = config.batch_size // mesh.size
  state = job.abstract_state
  param_bytes = rules.bytes_held(state.params)
  opt_bytes = rules.bytes_held(state.opt_state)
  ema = ('' if state.ema is None else
         f', {_si(rules.bytes_held(state.ema))}B moving average')
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
  per_image = job.model.flops(config.data.image_size)
  h, w = config.data.image_size
  accum = (f', in {config.accum_steps} accumulation steps'
           if config.accum_steps > 1 else '')
  rows = [
      ('devices', f'{mesh.size} x {devices[0].device_kind} on '
       f'{jax.process_count()} process(es); mesh data={mesh.shape["data"]} x '
       f'fsdp={mesh.shape["fsdp"]}'),
      ('batch', f'{config.batch_size} = {mesh.size} devices x {per_device} '
       f'images{accum}'),
      ('data', f'{data_input.name}[{data_input.split}]: '
       f'{data_input.num_examples:,} examples, {data_input.num_classes} classes, '
       f'{data_input.mode} as {_by(data_input.stored_shape)}, model input {h}x{w}'),
      ('length', f'{job.total_steps:,} steps = {epochs:,.1f} epochs of '
       f'{steps_per_epoch:,.1f} steps'),
      ('model', f'{config.model.variant or "custom"}: {count:,} parameters, '
       f'{_si(per_image)}FLOPs per image forward, {_si(3 * per_image)}FLOPs per '
       f'image of training'),
      ('compute', f'{job.model.dtype} with {job.model.param_dtype} parameters'),
      ('state', f'{_si(param_bytes)}B parameters, {_si(opt_bytes)}B optimizer '
       f'state{ema} per device'),
      ('workdir', f'{workdir}' + (f', resuming at step {start}' if start else '')),
  ]
  return '\n'.join(f'{name:>8}  {text}' for name, text in rows)


def summary(job: Job, workdir: str, store: Store, measured: Mapping[str, float],
            time_taken: str) -> str:
  """The page that `train` prints when it is done."""
  best = store.best()
  lines = ['', f'Finished {job.total_steps:,} steps in {time_taken}.']
  if measured:
    lines.append(f'  result      {values(measured)}')
  lines.append(f'  checkpoint  {store.path(job.total_steps)}')
  if job.config.checkpoint.best_metric and best is not None:
    lines.append(f'  best        {store.path(best)} by '
                 f'{job.config.checkpoint.best_metric}')
  lines += [
      f'  metrics     {workdir}/metrics.jsonl; tensorboard --logdir={workdir}',
      f'  next        vit_jax predict --workdir={workdir} IMAGE...']
  return '\n'.join(lines)


def values(measured: Mapping[str, float]) -> str:
  """'name 0.1234  name 0.1234'."""
  return '  '.join(f'{name} {value:.4f}' for name, value in measured.items())


def _by(shape: tuple[int, ...]) -> str:
  return 'x'.join(str(n) for n in shape) + ' uint8'


def _si(number: float) -> str:
  for power, prefix in ((12, 'T'), (9, 'G'), (6, 'M'), (3, 'k')):
    if number >= 10**power:
      return f'{number / 10**power:.3g} {prefix}'
  return f'{number:.3g} '
