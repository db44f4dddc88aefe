"""Settings of a run: declared in `sections`, read and overridden by `loading`."""

from vit_jax.config.loading import (
    apply_overrides,
    check,
    differences,
    from_dict,
    get,
    load,
    read_module,
    replace,
    to_config_dict,
    to_dict,
    with_tuned,
    with_values,
)
from vit_jax.config.sections import Config

__all__ = [
    'Config', 'apply_overrides', 'check', 'differences', 'from_dict', 'get', 'load',
    'read_module', 'replace', 'to_config_dict', 'to_dict', 'with_tuned', 'with_values']
