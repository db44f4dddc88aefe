"""The data sets of a sweep that have to be prepared before it can start."""

from vit_jax.config import evaluators as evaluator_settings
from vit_jax.data import preparing
from vit_jax.sweep import timing
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results


def missing(definition: Definition, results: Results) -> str:
  """All of them with what to do for each, as one message; '' if none is missing.

  Data of tasks whose cells are all finished is not needed.
  """
  tasks, sections = {}, {}
  for cell, _ in timing.expected_cells(definition, results):
    if results.get(cell) is not None:
      continue
    for data in [cell.config.data, *(
        evaluator_settings.data_section(cell.config, section)
        for section in cell.config.evaluators)]:
      key = data.name, data.dir
      sections.setdefault(key, data)
      tasks.setdefault(key, {})[cell.task] = True
  absent = [key for key, data in sections.items() if not preparing.is_prepared(data)]
  if not absent:
    return ''
  parts = [f'{name} (of {", ".join(tasks[name, folder])}):\n'
           + _indented(preparing.how_to_prepare(name, folder))
           for name, folder in absent]
  blocked = {task for key in absent for task in tasks[key]}
  others = [name for name in definition.asked if name not in blocked]
  hint = (f'\nThe tasks whose data is there: --tasks={",".join(others)}'
          if others else '')
  return (f'{len(absent)} data set(s) of this sweep are not prepared, so nothing was '
          'started.\n\n' + '\n\n'.join(parts) + hint)


def _indented(text):
  return '\n'.join(f'  {line}' for line in text.splitlines())
