"""The page that `vit_jax plan` prints."""

import os

from vit_jax.config.sections import Config
from vit_jax.plan.data_facts import Facts
from vit_jax.plan.step_cost import StepCost, Target

ASSUMPTIONS = (
    'Step times are estimates; nothing was measured on a TPU. They are the TPU '
    "compiler's own cycles at a clock of {clock} GHz, loops multiplied by their turns, "
    'plus collectives as bytes over links of {link:g} GB/s ({dcn:g} GB/s a chip '
    'between slices), good to a factor of two. Not charged: HBM contention, launches, '
    'input, evaluation, checkpoints, preemption. `low` halves the price of bfloat16 '
    'elementwise work, which the compiler is known to overestimate. MFU counts the '
    "model's FLOPs at the peak of {peak:g} TFLOP/s a chip; recomputation is no "
    'credit.')


def page(config: Config, facts: Facts, target: Target, cost: StepCost) -> str:
  """Everything there is to say of one configuration on its slices."""
  examples = f'{facts.num_examples:,}' if facts.num_examples else 'unknown number of'
  rows = [('slice', _slice(target)), ('mesh', _mesh(config, target, cost)),
          ('data', f'{config.data.name}[{config.data.train_split}]: '
           f'{examples} examples, '
           f'{facts.num_classes} classes, from {facts.origin}'),
          ('length', f'{cost.total_steps:,} steps of {config.batch_size:,} images')]
  rows += _memory(target, cost)
  rows += _arithmetic(target, cost)
  if cost.seconds:
    rows += _time(config, target, cost)
  text = '\n'.join(f'{name:>12}  {value}' for name, value in rows)
  return f'{text}\n{verdict(config, cost)}'


def assumptions(target: Target) -> str:
  chip = target.slice.generation
  return ASSUMPTIONS.format(
      clock=chip.clock_ghz, link=chip.link_gbps, dcn=chip.dcn_gbps,
      peak=chip.peak_tflops)


def verdict(config: Config, cost: StepCost) -> str:
  """Whether it fits; if not, by how much, and what to try."""
  how = '' if cost.compiled else ' by the estimate from shapes'
  if cost.fits:
    free = cost.usable - cost.total
    return f'fits{how}: {gib(free)} of {gib(cost.usable)} usable are left.'
  if cost.problem and not cost.problem.startswith('out of memory'):
    return f'does not compile: {cost.problem}'
  lacking = cost.total - cost.usable
  # The compiler may have stopped before it counted everything.
  least = 'at least ' if cost.compiled else ''
  missing = f': {least}{gib(lacking)} too much' if lacking > 0 else ''
  return (f'does not fit{how}{missing} on each device. Try, in this order: '
          f'{"; ".join(remedies(config, cost))}. Or let --tune find out.')


def remedies(config: Config, cost: StepCost) -> list[str]:
  """Settings that need less memory, the cheapest in time first."""
  found = []
  if cost.mesh[1] == 1:
    found.append('--config.mesh.fsdp=16 or another divisor of the devices, which '
                 'divides parameters and optimizer state')
  if config.optimizer.moment_dtype == 'float32':
    found.append('--config.optimizer.moment_dtype=bfloat16')
  if config.model.remat == 'none':
    found.append('--config.model.remat=dots_no_batch, which recomputes attention and '
                 'norms')
  if config.model.remat != 'full':
    found.append('--config.model.scan=true --config.model.remat=full')
  found.append(f'--config.accum_steps={2 * config.accum_steps}, which halves the '
               'activations')
  found.append('a smaller --config.batch_size, or more chips')
  return found


def _slice(target: Target) -> str:
  chip, s = target.slice.generation, target.slice
  also = f' = {s.accelerator_type}' if s.accelerator_type else ''
  hosts = s.hosts * target.slices
  return (f'{target.name}{also}: {s.chips * target.slices} chips on {hosts} '
          f'host{"s" if hosts > 1 else ""}, {chip.peak_tflops:g} TFLOP/s and '
          f'{chip.hbm_gib:g} GiB each')


def _mesh(config: Config, target: Target, cost: StepCost) -> str:
  data, fsdp = cost.mesh
  per_device = config.batch_size // target.devices
  accum = (f' in {config.accum_steps} accumulation steps'
           if config.accum_steps > 1 else '')
  return (f'data={data} x fsdp={fsdp}; {per_device} images on each of '
          f'{target.devices} devices{accum}')


def _memory(target: Target, cost: StepCost) -> list[tuple[str, str]]:
  chip = target.slice.generation
  unit = 'device' if chip.devices_per_chip > 1 else 'chip'
  ema = f', moving average {gib(cost.ema)}' if cost.ema else ''
  rows = [('state', f'parameters {gib(cost.params)}, optimizer '
           f'{gib(cost.opt_state)}{ema} per {unit}')]
  capacity = gib(target.slice.hbm_bytes)
  if not cost.compiled:
    others = cost.total - cost.params - cost.opt_state - cost.ema
    rows.append(('HBM', f'about {gib(cost.total)} of {capacity} per {unit}: state '
                 f'and {gib(others)} gradients, activations and batch (estimated '
                 'from shapes)'))
  elif cost.arguments:
    state = cost.params + cost.opt_state + cost.ema
    rows.append(('HBM', f'{gib(cost.total)} of {capacity} per {unit}, as the '
                 f'compiler allocates it: state {gib(state)}, batch and padding '
                 f'{gib(cost.arguments - state)}, temporaries '
                 f'{gib(cost.temporaries)}, program {gib(cost.code)}'))
  return rows


def _arithmetic(target: Target, cost: StepCost) -> list[tuple[str, str]]:
  bound = cost.model_flops / (target.devices * target.slice.peak_flops)
  rows = [('FLOPs', f'{si(cost.model_flops)}FLOPs per step for the model (3 x '
           f'forward); at the peak rate that alone takes {bound * 1e3:.1f} ms'
           + ('' if cost.seconds else
              f', the schedule {bound * cost.total_steps / 3600:,.2f} hours'))]
  if cost.program_flops:
    whole = cost.program_flops * target.devices
    xla = ''
    if cost.xla_flops:
      difference = cost.program_flops / cost.xla_flops - 1
      xla = (f"; XLA's own count differs by {difference:+.1%}, as it holds elementwise "
             'work, too')
    rows.append(('', f'{si(whole)}FLOPs in the compiled program, '
                 f'{whole / cost.model_flops:.2f} times as many, in {cost.dtype}'
                 f'{xla}'))
  return rows


def _time(config: Config, target: Target,
          cost: StepCost) -> list[tuple[str, str]]:
  rows = [('collectives', ', '.join(
      f'{count:,} {kind} of {si(size)}B' for kind, (count, size)
      in cost.collectives.items()) or 'none')]
  rows.append(('network', f'busy {cost.network_busy * 1e3:.1f} ms, waited for '
               f'{cost.network_exposed * 1e3:.1f} ms of a step'))
  hbm = cost.hbm_bytes / target.slice.hbm_bytes_per_second
  rows.append(('HBM traffic', f'{si(cost.hbm_bytes)}B a step, {hbm * 1e3:.1f} ms at '
               'the peak rate'))
  rows.append(('step', f'about {cost.seconds * 1e3:.1f} ms (low '
               f'{cost.seconds_low * 1e3:.1f}): '
               f'{config.batch_size / cost.seconds:,.0f} images/s, MFU '
               f'{mfu(target, cost):.1%} (low {mfu(target, cost, low=True):.1%})'))
  seconds = cost.total_steps * cost.seconds
  chips = target.slice.chips * target.slices
  rows.append(('schedule', f'about {seconds / 3600:,.2f} hours, '
               f'{seconds / 3600 * chips:,.1f} chip-hours'))
  rows += [('note', note) for note in cost.notes]
  return rows


def mfu(target: Target, cost: StepCost, low: bool = False) -> float:
  """Model FLOPs utilisation: model FLOPs over peak FLOPs in the estimated time."""
  seconds = cost.seconds_low if low else cost.seconds
  return cost.model_flops / (target.devices * target.slice.peak_flops * seconds)


def gib(count: float) -> str:
  """'1.23 GiB'; of less than a tenth of that '45.6 MiB'."""
  if count < 2**30 / 10:
    return f'{count / 2**20:.1f} MiB'
  return f'{count / 2**30:.2f} GiB'


def si(number: float) -> str:
  for power, prefix in ((18, 'E'), (15, 'P'), (12, 'T'), (9, 'G'), (6, 'M'), (3, 'k')):
    if number >= 10**power:
      return f'{number / 10**power:.3g} {prefix}'
  return f'{number:.3g} '


def without_libtpu() -> str:
  return ("For the compiler's memory, collectives and step time: pip install "
          f"'vit_jax[plan]'{'' if os.uname().machine == 'x86_64' else ' on x86-64'}.")
