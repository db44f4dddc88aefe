"""What each command of the command line does, given its parsed flags."""

import contextlib
import json
import logging
import signal
import sys

import ml_collections
from absl import logging as absl_logging

from vit_jax import config as config_lib
from vit_jax import workdir as workdir_lib
from vit_jax.errors import UserError


def run_train(args, overrides):
  config = config_lib.load(args.config, overrides)
  _quiet_logs()
  from vit_jax import compilation_cache
  from vit_jax.parallel import hosts
  compilation_cache.enable()
  hosts.initialize(hosts.ProcessGroup(
      args.coordinator_address, args.num_processes, args.process_id, args.multihost))
  from vit_jax.training import train as run
  run(config, args.workdir)


def run_eval(args, overrides):
  run = _trained_run(args, overrides)
  split = args.split or run.config.data.test_split or run.config.data.val_split
  measured = run.evaluate(split)
  if args.json:
    print(json.dumps({'step': run.step, 'split': split, **measured}))
  else:
    values = '  '.join(f'{name} {value:.4f}' for name, value in measured.items())
    print(f'step {run.step}  {run.config.data.name}[{split}]  {values}')


def run_predict(args, overrides):
  run = _trained_run(args, overrides, one_device=True)
  names = run.dataset.class_names
  for path, probabilities in zip(args.images, run.predict(args.images), strict=True):
    top = probabilities.argsort()[::-1][:args.top_k]
    if args.json:
      print(json.dumps({'image': path, 'classes': [
          {'class': int(i), 'name': names[i], 'probability': float(probabilities[i])}
          for i in top]}))
    else:
      print(path)
      for i in top:
        print(f'  {probabilities[i]:7.2%}  {names[i]}')


# Flags of `convert` that are settings of `vit_jax.checkpoints.load`.
_LOAD_SETTINGS = (
    'num_heads', 'num_classes', 'representation_size', 'image_size', 'position_grid',
    'position_resize', 'pool', 'class_token', 'gelu', 'layer_norm_eps')


def run_convert(args, overrides):
  if overrides:
    raise UserError(
        f'Unexpected {overrides[0]}: a conversion has no config. Settings of the '
        'model are flags of their own, see vit_jax convert --help.')
  if bool(args.destination) == args.list:
    raise UserError('Give either a destination DST, or --list.')
  settings = {name: getattr(args, name) for name in _LOAD_SETTINGS
              if getattr(args, name) is not None}
  if args.scan:
    settings['scan'] = args.scan == 'true'
  _quiet_logs()
  from vit_jax.checkpoints import convert
  if args.list:
    print(convert.listing(args.source, **settings))
    return
  with _exit_on_sigterm():
    lines = convert.convert(
        args.source, args.destination, args.to, verification=not args.no_verify,
        **settings)
  print('\n'.join(lines))


@contextlib.contextmanager
def _exit_on_sigterm():
  # By default the process would end at once, without removing what is half written.
  before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def run_config(args, overrides):
  resolved = config_lib.load(args.config, overrides)
  from vit_jax import job
  job.check(resolved)
  # Through JSON: tuples become lists, which YAML shows as what they are.
  text = json.dumps(config_lib.to_dict(resolved), indent=2)
  if args.json:
    print(text)
  else:
    print(ml_collections.ConfigDict(json.loads(text)), end='')


def _trained_run(args, overrides, one_device=False):
  config = config_lib.check(config_lib.apply_overrides(
      workdir_lib.read_config(args.workdir), overrides))
  _quiet_logs()
  import jax

  from vit_jax import compilation_cache
  from vit_jax.inference import TrainedRun
  compilation_cache.enable()
  devices = jax.devices()[:1] if one_device else None
  return TrainedRun(args.workdir, config, args.step, devices)


def _quiet_logs():
  # Orbax, TFDS and CLU log every step they take through absl at INFO and WARNING.
  absl_logging.set_verbosity(absl_logging.ERROR)
  logging.getLogger('jax').setLevel(logging.ERROR)
