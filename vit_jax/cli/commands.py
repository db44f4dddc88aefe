"""What each command of the command line does, given its parsed flags."""

import contextlib
import json
import logging
import signal
import sys

import ml_collections
from absl import logging as absl_logging

from vit_jax import config as config_lib
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import restartable
from vit_jax.training import workdir as workdir_lib


@restartable()
def run_train(args, overrides):
  config = load_config(args, overrides)
  _quiet_logs()
  from vit_jax.parallel import hosts
  from vit_jax.runtime import compilation_cache
  compilation_cache.enable()
  with hosts.session(_process_group(args)):
    from vit_jax.training.loop import train as run
    run(config, args.workdir)


def load_config(args, overrides):
  """The settings that --config, its overrides and --debug say, in this order."""
  config = config_lib.load(args.config, overrides)
  if args.debug:
    from vit_jax.training.debug import debug_form
    config = debug_form(config)
  return config


def _process_group(args):
  from vit_jax.parallel import hosts
  return hosts.ProcessGroup(
      args.coordinator_address, args.num_processes, args.process_id, args.multihost,
      args.start_timeout)


def run_eval(args, overrides):
  chosen = [name for name in args.evaluators.split(',') if name]
  if chosen and args.kind:
    raise UserError('Give --evaluators for those of the config, or --kind for one '
                    'that it lacks.')
  if args.data and not args.kind:
    raise UserError(f'--data={args.data} needs a --kind: what to do with the data, '
                    f'{", ".join(evaluator_settings.KINDS)}.')
  config = workdir_lib.read_config(args.workdir)
  if args.kind:
    config, name = evaluator_settings.with_one_more(config, args.kind, args.data)
    chosen = [name]
  run = _trained_run(args, overrides, config=config)
  data = run.config.data
  split = args.split or ('' if chosen else data.test_split or data.val_split)
  measured, told = {}, {'step': run.step}
  if split:
    told['split'] = split
    measured |= run.evaluate(split)
  if chosen or not args.split:
    measured |= run.run_evaluators(chosen)
  if not measured:
    raise UserError(f'{args.workdir} has neither a test split, nor a validation split, '
                    'nor evaluators; give a --split or a --kind.')
  if args.json:
    print(json.dumps({**told, **measured}))
  else:
    where = f'  {data.name}[{split}]' if split else ''
    values = '  '.join(f'{name} {value:.4f}' for name, value in measured.items())
    print(f'step {run.step}{where}  {values}')


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


@restartable()
def run_sweep(args, overrides):
  if args.plan and args.report:
    raise UserError('Give either --plan or --report.')
  _quiet_logs()
  from vit_jax.sweep import command
  if args.report and not args.config:
    command.report(args.workdir)
    return
  settings = command.Settings(
      args.config, tuple(overrides), args.tasks, tuple(args.grid), args.seeds,
      args.shard, args.keep_checkpoints, args.debug)
  if args.plan or args.report:
    (command.plan if args.plan else command.report)(args.workdir, settings)
    return
  from vit_jax.parallel import hosts
  from vit_jax.runtime import compilation_cache
  compilation_cache.enable()
  with hosts.session(_process_group(args)):
    command.run(args.workdir, settings)


def run_plan(args, overrides) -> int:
  from vit_jax.plan import compile as compile_lib
  compile_lib.prepare_environment()
  _quiet_logs()
  from vit_jax.plan import command
  return command.run(args, overrides)


def run_config(args, overrides):
  resolved = load_config(args, overrides)
  from vit_jax.training import job
  job.check(resolved)
  # Through JSON: tuples become lists, which YAML shows as what they are.
  text = json.dumps(config_lib.to_dict(resolved), indent=2)
  if args.json:
    print(text)
  else:
    print(ml_collections.ConfigDict(json.loads(text)), end='')


def _trained_run(args, overrides, one_device=False, config=None):
  config = config_lib.check(config_lib.apply_overrides(
      config or workdir_lib.read_config(args.workdir), overrides))
  _quiet_logs()
  import jax

  from vit_jax.runtime import compilation_cache
  from vit_jax.training.inference import TrainedRun
  compilation_cache.enable()
  devices = jax.devices()[:1] if one_device else None
  return TrainedRun(args.workdir, config, args.step, devices)


def _quiet_logs():
  # Orbax, TFDS and CLU log every step they take through absl at INFO and WARNING.
  absl_logging.set_verbosity(absl_logging.ERROR)
  logging.getLogger('jax').setLevel(logging.ERROR)
