"""Settings of a run: declared in `sections`, read from files and flags by `loading`."""

from vit_jax.config.checks import check
from vit_jax.config.loading import apply_overrides, load, read_module, with_tuned
from vit_jax.config.sections import Config
from vit_jax.config.values import (
    compiled,
    differences,
    from_dict,
    get,
    replace,
    to_config_dict,
    to_dict,
    with_values,
)

__all__ = [
    'Config', 'apply_overrides', 'check', 'compiled', 'differences', 'from_dict', 'get',
    'load', 'read_module', 'replace', 'to_config_dict', 'to_dict', 'with_tuned',
    'with_values']
