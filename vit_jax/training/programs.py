"""The compiled programs of a run, each with all that it depends on.

Every program is a frozen dataclass: its fields are what it is built from, so equal
ones are the same program, see `vit_jax.runtime.program_cache`.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from vit_jax import objectives
from vit_jax.config.sections import Config, PreprocessSection
from vit_jax.models import layout, variants
from vit_jax.models.model import Model
from vit_jax.objectives.objective import Objective, check_returned
from vit_jax.parallel import auto_mesh, rules
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError, warn
from vit_jax.training import keys, optimizers
from vit_jax.training import state as state_lib
from vit_jax.training import step as step_lib
from vit_jax.training.compiler_options import compiler_options
from vit_jax.training.state import TrainState
from vit_jax.training.step import Rates


@dataclasses.dataclass(frozen=True)
class Setup:
  """Model, optimizer and state of a run, which all of its programs are built from.

  Attributes:
    config: as `vit_jax.config.compiled` reduces it.
    base_mesh: where `config.mesh` leaves it open, the run's own mesh is one over the
      same devices that suits its state.
    num_classes: of the data set.
    trains: whether there is an optimizer; else it only evaluates.
  """
  config: Config
  base_mesh: Mesh
  num_classes: int
  trains: bool

  def build(self) -> 'Setup':
    """Itself, after a trace of the initialisation."""
    _ = self.abstract_state
    return self

  @functools.cached_property
  def model(self) -> Model:
    outputs = self._objective.num_outputs(self.config, self.num_classes)
    return variants.from_section(self.config.model, outputs, self.platform)

  @functools.cached_property
  def optimizer(self) -> optax.GradientTransformation:
    return optimizers.create(self.config.optimizer) if self.trains else optax.identity()

  @property
  def mesh(self) -> Mesh:
    return self._layout[0]

  @property
  def abstract_state(self) -> TrainState:
    """Of ShapeDtypeStructs that carry their shardings."""
    return self._layout[1]

  @property
  def platform(self) -> str:
    """'tpu', 'gpu' or 'cpu'."""
    return self.base_mesh.devices.flat[0].platform

  def objective(self, remaining: PreprocessSection) -> Objective:
    """`config.objective` for images with this preprocessing left to do."""
    return self._objective(self.config, self.model, self.num_classes, remaining)

  def init(self, seed: jax.typing.ArrayLike) -> TrainState:
    params = layout.init(
        self.model, keys.of_purpose(seed, 'parameters'), self.config.data.image_size)
    return state_lib.create(params, self.optimizer, ema=self.config.ema_decay > 0)

  def abstract_batch(self, batch_size: int, stored_shape: tuple[int, ...],
                     label_shape: tuple[int, ...], *,
                     mask: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch as the input pipeline yields it; `mask`: for evaluation."""
    sharding = mesh_lib.over_batch(self.mesh)
    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)
    batch = {'image': array(stored_shape, jnp.uint8),
             'label': array(label_shape, jnp.int32)}
    return {**batch, 'mask': array((), jnp.bool_)} if mask else batch

  def compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """What was lowered for this setup, compiled with the options of its platform."""
    return compile_lowered(lowered, self.config, self.platform)

  @property
  def _objective(self) -> type[Objective]:
    return objectives.find(self.config.objective)

  @functools.cached_property
  def _layout(self) -> tuple[Mesh, TrainState]:
    shapes = jax.eval_shape(self.init, 0)
    mesh = auto_mesh.fit(self.config.mesh, self.base_mesh, shapes)
    return mesh, jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes, rules.state_shardings(shapes, mesh))


@dataclasses.dataclass(frozen=True)
class InitStep:
  """`seed -> TrainState`, the first state."""
  setup: Setup

  def lower(self) -> jax.stages.Lowered:
    jitted = jax.jit(self.setup.init, out_shardings=_shardings(self.setup))
    return jitted.lower(jax.ShapeDtypeStruct((), jnp.uint32))

  def build(self) -> Callable[[np.uint32], TrainState]:
    # It runs once: on a CPU, optimising it takes longer than it will ever save.
    options: dict[str, str | bool] | None = (
        {'xla_backend_optimization_level': '0'} if self.setup.platform == 'cpu'
        else None)
    return self.lower().compile(options)


@dataclasses.dataclass(frozen=True)
class TrainStep:
  """`(state, batch, seed, rates) -> (state, metrics)`, see `step.make_train_step`.

  Attributes:
    setup: of the run.
    remaining: preprocessing left to the accelerator, see `data.open_input`.
    stored_shape: (h, w, 3) of the uint8 images that arrive.
    label_shape: of one label, () or (max_labels,).
  """
  setup: Setup
  remaining: PreprocessSection
  stored_shape: tuple[int, ...]
  label_shape: tuple[int, ...] = ()

  def lower(self) -> jax.stages.Lowered:
    setup, config = self.setup, self.setup.config
    objective = setup.objective(self.remaining)
    step = step_lib.make_train_step(
        setup.optimizer, objective.prepare, objective.loss,
        accum_steps=config.accum_steps, ema_decay=config.ema_decay,
        ema_warmup=config.ema_warmup)
    jitted = jax.jit(
        step, donate_argnums=0,
        out_shardings=(_shardings(setup), mesh_lib.replicated(setup.mesh)))
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    batch = setup.abstract_batch(
        config.batch_size, self.stored_shape, self.label_shape)
    lowered = jitted.lower(setup.abstract_state, batch, seed, Rates(rate, rate))
    check_returned(config, 'loss', objective.shown, lowered.out_info[1])
    return lowered

  def build(self) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    return self.setup.compile(self.lower())


@dataclasses.dataclass(frozen=True)
class EvalStep:
  """`(params, batch) -> sums`, see `Objective.eval_step`; the rest as `TrainStep`."""
  setup: Setup
  remaining: PreprocessSection
  stored_shape: tuple[int, ...]
  label_shape: tuple[int, ...]
  batch_size: int

  def lower(self) -> jax.stages.Lowered:
    setup = self.setup
    step = setup.objective(self.remaining).eval_step
    jitted = jax.jit(step, out_shardings=mesh_lib.replicated(setup.mesh))
    lowered = jitted.lower(setup.abstract_state.eval_params, setup.abstract_batch(
        self.batch_size, self.stored_shape, self.label_shape, mask=True))
    check_returned(setup.config, 'eval_step', ('seen',), lowered.out_info)
    return lowered

  def build(self) -> Callable[..., dict[str, jax.Array]]:
    return self.setup.compile(self.lower())


def compile_lowered(lowered: jax.stages.Lowered, config: Config,
                    platform: str) -> jax.stages.Compiled:
  """Compiles with `config.xla_options` and our own for the platform.

  Defaults of ours that the compiler doesn't know are left out, with a warning.

  Raises:
    UserError: if it doesn't know an option of `config.xla_options`.
  """
  options = compiler_options(config, platform) or {}
  while True:
    try:
      return lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as e:
      unknown = re.search("No such compile option: '([^']*)'", str(e))
      if not unknown:
        raise
      name = unknown[1]
      if name in dict(config.xla_options):
        raise UserError(
            f'config.xla_options has {name!r}, which this compiler does not know. '
            'Leave it out, or look up its name for the installed versions.') from e
      warn(f'this compiler does not know {name!r}: compiling without it')
      options.pop(name)


def _shardings(setup: Setup) -> Any:
  return jax.tree.map(lambda x: x.sharding, setup.abstract_state)
