"""What `config.evaluators` may hold, and what it means; imports nothing heavy."""

import dataclasses

from vit_jax.config.sections import Config, DataSection, EvaluatorSection
from vit_jax.config.settings import declared
from vit_jax.runtime.errors import UserError

# Prefixes of metrics that are taken.
_RESERVED = ('train', 'val', 'test')
# What differs between data sets; the rest of `config.data` says what the model expects.
_OF_DATA_SET = tuple(name for name, known in declared(EvaluatorSection).items()
                     if known.of_data_set)


def check_evaluators(config: Config) -> None:
  """Raises UserError for impossible evaluators; looks at no data."""
  seen: set[str] = set()
  for i, section in enumerate(config.evaluators):
    key = f'evaluators[{i}]'
    _check_name(section.name, key, seen)
    data = data_section(config, section)
    if not data.test_split:
      raise UserError(f'config.{key}.test_split is not set, and config.data.test_split '
                      'is not either; give one of them.')
    if section.kind == 'fewshot' and len(section.l2) > 1 and not section.select_l2:
      raise UserError(
          f'config.{key}.l2 is {section.l2!r}; few-shot accuracy takes one strength '
          'unless select_l2 is True. Give one, or set that.')
    if (section.kind == 'label_map') != bool(section.label_map):
      raise UserError(
          f'config.{key} of kind {section.kind!r} has label_map={section.label_map!r}; '
          "kind 'label_map', and no other, takes the path of a JSON file. Change one "
          'of them.')


def _check_name(name: str, key: str, seen: set[str]) -> None:
  if not name.replace('_', '').replace('-', '').isalnum():
    raise UserError(f'config.{key}.name is {name!r}; it takes letters, digits, - and '
                    "_, such as 'real', and names the results: 'real/accuracy'.")
  if name in _RESERVED or name in seen:
    raise UserError(f'config.{key}.name is {name!r}, which is taken; give every '
                    'evaluator a name of its own.')
  seen.add(name)


def data_section(config: Config, section: EvaluatorSection) -> DataSection:
  """The data of an evaluator: `config.data` but for what is its own."""
  data = config.data
  if section.data:
    facts = {name: getattr(DataSection(), name) for name in _OF_DATA_SET}
    # TFDS data sets share a directory, image folders don't.
    folder = 'folder' in (data.name, section.data)
    data = dataclasses.replace(
        data, name=section.data, dir='' if folder else data.dir, **facts)
  elif not data.test_split:
    data = dataclasses.replace(data, test_split=data.val_split)
  own = {name: getattr(section, name) for name in ('dir', *_OF_DATA_SET)
         if getattr(section, name)}
  return dataclasses.replace(data, val_split='', **own)


def of_run(config: Config) -> tuple[EvaluatorSection, ...]:
  """All evaluators of a training: its 'val' and 'test' splits, `config.evaluators`."""
  splits = (('val', config.data.val_split), ('test', config.data.test_split))
  return (*(EvaluatorSection(name=name, test_split=split) for name, split in splits
            if split), *config.evaluators)


def key_of(config: Config, section: EvaluatorSection) -> str:
  """Where one of `of_run` stands in the settings, such as 'evaluators[0]'."""
  if section in config.evaluators:
    return f'evaluators[{config.evaluators.index(section)}]'
  return f'data.{section.name}_split'


def with_one_more(config: Config, kind: str, data: str) -> tuple[Config, str]:
  """`config` with a new first evaluator of a data set, and the name it got."""
  # Of the user's own, 'package.module:name', the last part.
  word = kind.rpartition(':')[2]
  taken = {section.name for section in config.evaluators}
  name = next(n for n in (word, f'other_{word}', f'another_{word}') if n not in taken)
  section = EvaluatorSection(name=name, kind=kind, data=data)
  evaluators = (section, *config.evaluators)
  return dataclasses.replace(config, evaluators=evaluators), name
