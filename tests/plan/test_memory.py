"""What a plan says of memory, against arrays that exist."""

import jax
import numpy as np
import pytest

from vit_jax import config as config_lib
from vit_jax.data import open_input
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.parallel import tpu_slices
from vit_jax.plan import data_facts, memory, step_cost
from vit_jax.runtime.errors import UserError
from vit_jax.training import job as job_lib

_CONFIG = {
    'total_steps': 10, 'batch_size': 32, 'ema_decay': 0.9,
    'model': dict(variant='', patch_size=(4, 4), width=32, depth=2, mlp_dim=64,
                  num_heads=2, pool='gap'),
    'data': dict(name='digits', image_size=(8, 8)),
    'optimizer': dict(name='adamw', moment_dtype='bfloat16'),
}


def _config(**overrides):
  config = config_lib.from_dict(_CONFIG)
  return config_lib.check(config_lib.with_values(config, overrides))


def _bytes_on_first_device(tree):
  first = jax.devices()[0]
  return sum(s.data.nbytes for x in jax.tree.leaves(tree)
             for s in x.addressable_shards if s.device == first)


@pytest.mark.parametrize('fsdp', [1, 4])
def test_predicted_state_is_what_a_device_holds(fsdp):
  config = _config(**{'mesh.fsdp': fsdp})
  real = job_lib.build(config, mesh_lib.create(config.mesh), 10, 10)
  state = job_lib.init_state(real)
  # v5e:2x4 has as many devices as there are simulated ones.
  target = step_cost.Target(tpu_slices.parse('v5e:2x4'))
  cost = step_cost.from_shapes(config, data_facts.find(config), target)
  assert cost.mesh == (8 // fsdp, fsdp)
  assert cost.params == _bytes_on_first_device(state.params)
  assert cost.opt_state == _bytes_on_first_device(state.opt_state)
  assert cost.ema == _bytes_on_first_device(state.ema)
  assert cost.total > cost.params + cost.opt_state + cost.ema


def test_the_compute_type_is_that_of_a_tpu():
  config = _config()
  cost = step_cost.from_shapes(
      config, data_facts.find(config), step_cost.Target(tpu_slices.parse('v5e:2x2')))
  assert cost.dtype == 'bfloat16'


def _kept(**options):
  config = _config(**{f'model.{k}': v for k, v in options.items()},
                   **{'model.dtype': 'float32'})
  mesh = memory.abstract_mesh(config, tpu_slices.parse('v5e:2x2'))
  job = job_lib.build(config, mesh, 10, 10)
  return memory.activation_bytes(job.model, (8, 8))


def test_activations_by_hand():
  """A block whose input alone is kept, and is recomputed as a whole."""
  one, two, three = (_kept(depth=d, scan=True, remat='full') for d in (1, 2, 3))
  # 4 tokens of width 32 in float32.
  assert three - two == two - one == 4 * 32 * 4


def test_what_is_recomputed_is_not_kept():
  kept = {remat: _kept(remat=remat, scan=True, depth=8)
          for remat in ('none', 'dots', 'dots_no_batch', 'full')}
  assert kept['none'] > kept['dots'] > kept['dots_no_batch'] > kept['full']


def test_accumulation_divides_activations():
  def of(steps):
    config = _config(accum_steps=steps)
    mesh = memory.abstract_mesh(config, tpu_slices.parse('v5e:2x2'))
    job = job_lib.build(config, mesh, 10, 10)
    return memory.estimate(job, (8, 8, 3))
  assert of(1).activations == 4 * of(4).activations > 0
  assert of(1).batch == of(4).batch


def test_flops_of_a_step():
  """Closed form: 2 FLOPs a multiply-add, 3 passes, the images of a global batch."""
  config = _config()
  cost = step_cost.from_shapes(
      config, data_facts.find(config), step_cost.Target(tpu_slices.parse('v5e:2x2')))
  L, D, F = 4, 32, 64
  block = 4 * L * D * D + 2 * L * L * D + 2 * L * D * F
  image = 2 * (L * 4 * 4 * 3 * D + 2 * block + D * 10)
  assert cost.model_flops == 3 * 32 * image


def test_slices_multiply_devices():
  config = _config()
  facts = data_facts.find(config)
  one, two = (
      step_cost.from_shapes(
          config, facts, step_cost.Target(tpu_slices.parse('v5e:2x2'), n))
      for n in (1, 2))
  assert (one.mesh, two.mesh) == ((4, 1), (8, 1))


@pytest.mark.parametrize('variant, mesh', [('S/16', (256, 1)), ('H/14', (16, 16))])
def test_the_mesh_is_the_one_that_a_run_chooses(variant, mesh):
  """S/16 with its optimizer fills 0.3 GB of a v5e's 16 GiB, H/14 10 GB."""
  config = _config(**{
      'model.variant': variant, 'model.width': 0, 'model.depth': 0,
      'model.mlp_dim': 0, 'model.num_heads': 0, 'model.patch_size': [],
      'model.scan': True, 'model.remat': 'full', 'data.image_size': [224, 224],
      'batch_size': 1024, 'mesh.fsdp': 0})
  target = step_cost.Target(tpu_slices.parse('v5e:16x16'))
  chosen = step_cost.resolve_mesh(config, data_facts.find(config), target)
  assert mesh_lib.shape(chosen.mesh, 256) == mesh


def test_data_here_are_read():
  config = _config()
  found = data_facts.find(config)
  real = open_input(config.data, 'train', train=True)
  assert found.origin == 'the prepared data'
  assert (found.num_examples, found.num_classes) == (real.num_examples, 10)
  assert found.stored_shape == real.stored_shape
  assert found.remaining == real.remaining


@pytest.mark.parametrize('name, split, classes, size, shape', [
    # Streamed and cropped on the host; small enough to be kept as they are.
    ('imagenet2012:5.*.*', 'train[:99%]', 1000, 1_268_355, (224, 224, 3)),
    ('cifar100', 'train[:45000]', 100, 45_000, (32, 32, 3)),
    ('imagenet21k', 'full[51200:]', 21_843, 14_145_922, (224, 224, 3)),
])
def test_data_that_are_not_here(name, split, classes, size, shape, tmp_path):
  config = _config(**{
      'data.name': name, 'data.train_split': split, 'data.dir': str(tmp_path),
      'data.image_size': [224, 224], 'data.train.crop': 'inception',
      'total_steps': 0, 'total_epochs': 2.0})
  found = data_facts.find(config)
  assert (found.num_classes, found.num_examples) == (classes, size)
  assert found.stored_shape == shape
  assert job_lib.total_steps(config, found.num_examples) == round(2 * size / 32)


def test_flags_stand_for_data(tmp_path):
  config = _config(**{'data.name': 'folder', 'data.dir': str(tmp_path / 'none')})
  with pytest.raises(UserError, match='--num_classes'):
    data_facts.find(config)
  found = data_facts.find(config, num_classes=7)
  assert (found.num_classes, found.num_examples) == (7, 0)
  epochs = config_lib.with_values(config, {'total_steps': 0, 'total_epochs': 3.0})
  with pytest.raises(UserError, match='--num_examples'):
    data_facts.find(epochs, num_classes=7)
  found = data_facts.find(epochs, num_classes=7, num_examples=3200)
  assert job_lib.total_steps(epochs, found.num_examples) == 300


def test_a_batch_that_does_not_divide_is_an_error():
  config = _config(batch_size=33)
  with pytest.raises(UserError, match='33'):
    step_cost.from_shapes(config, data_facts.find(config),
                          step_cost.Target(tpu_slices.parse('v5e:2x2')))


@pytest.mark.slow
def test_memory_of_real_runs():
  """The TPU compiler's allocation for programs of other projects, to 10 or 20 %.

  L/16 and B/16 with AdamW at 64 images a v5e chip: 11.98 and 4.34 GiB unrolled, 5.57
  GiB for a scan of L/16 that recomputes everything, 13.67 GiB for a scan of B/16 that
  recomputes nothing.
  """
  def total(variant, **options):
    config = _config(**{
        'model.variant': variant, 'model.width': 0, 'model.depth': 0,
        'model.mlp_dim': 0, 'model.num_heads': 0, 'model.patch_size': [],
        'data.image_size': [224, 224], 'batch_size': 64 * 16, 'ema_decay': 0.0,
        'mesh.fsdp': 1,
        **{f'model.{k}': v for k, v in options.items()}})
    mesh = memory.abstract_mesh(config, tpu_slices.parse('v5e:4x4'))
    job = job_lib.build(config, mesh, 1000, 10)
    return memory.estimate(job, (224, 224, 3)).total / 2**30
  found = np.array([total('L/16'), total('B/16'),
                    total('L/16', scan=True, remat='full'),
                    total('B/16', scan=True)])
  assert found[:3] == pytest.approx([11.98, 4.34, 5.57], rel=0.1)
  # The allocation is that of jax 0.10; jax 0.12 keeps fewer arrays of a scan.
  bound = 0.1 if jax.__version_info__ < (0, 12) else 0.2
  assert found[3] == pytest.approx(13.67, rel=bound)
