"""Names of the published AugReg models, as in the original code.

'R26+S/32' or 'B/16' followed by ':i21k' is the best ImageNet-21k checkpoint by
`final_val` of the study's table, https://arxiv.org/abs/2106.10270; a data set after
it picks the best one fine-tuned on that. The full name of a file works as well.
"""

import csv
import io
import re
from collections.abc import Sequence

from etils import epath

from vit_jax.runtime.errors import UserError

BUCKET = 'gs://vit_models/augreg'
_PREFIX = 'augreg:'
# Model part of a file name.
_MODELS = ('Ti_16', 'S_16', 'S_32', 'B_16', 'B_32', 'B_8', 'L_16', 'R_Ti_16',
           'R26_S_32', 'R50_L_32')


def resolve(name: str, bucket: str = BUCKET) -> str:
  """The path of a published model; any other path comes back as it is.

  Args:
    name: 'augreg:<model>[:i21k]', the best ImageNet-21k checkpoint of a model such
      as B_16 (or 'B/16'); 'augreg:<model>:<data set>[:<resolution>]', the best
      fine-tuned one; or 'augreg:<file name>', one of the table's files.
    bucket: folder or URL of the files and their `index.csv`.

  Raises:
    UserError: for an unknown model, data set or file.
  """
  if not name.startswith(_PREFIX):
    return name
  model, *rest = name.removeprefix(_PREFIX).split(':')
  rows = _read(bucket)
  if model.count('-') > 1:
    known = {row[key] for row in rows for key in ('filename', 'adapt_filename')}
    model = model.removesuffix('.npz')
    if model not in known:
      raise UserError(
          f'{bucket}/index.csv has no file {model!r}. Give a name from its columns '
          "filename and adapt_filename, or only the model's.")
    return f'{bucket}/{model}.npz'
  model = re.sub(r'[/+]', '_', model)
  rest = [] if rest == ['i21k'] else rest
  if model not in _MODELS or len(rest) > 2:
    raise UserError(
        f'{name!r} is no AugReg model; expected augreg:<model>[:<data set>'
        f'[:<resolution>]] with a model from {", ".join(_MODELS)}.')
  best = _best([row for row in rows if row['ds'] == 'i21k'
                and row['filename'].startswith(f'{model}-')], 'final_val', name)
  if not rest:
    return f'{bucket}/{best["filename"]}.npz'
  tuned = [row for row in rows if row['filename'] == best['filename']
           and row['adapt_ds'] == rest[0]
           and (len(rest) == 1 or row['adapt_resolution'] == rest[1])]
  best = _best(tuned, 'adapt_final_val', name)
  return f'{bucket}/{best["adapt_filename"]}.npz'


def _read(bucket: str) -> list[dict[str, str]]:
  path = epath.Path(bucket) / 'index.csv'
  try:
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    needed = {'filename', 'adapt_filename', 'ds', 'final_val', 'adapt_ds',
              'adapt_resolution', 'adapt_final_val'}
    if not rows or not needed <= rows[0].keys():
      raise ValueError(f'expected the columns {", ".join(sorted(needed))}')
  except Exception as e:  # every file system has exceptions of its own
    raise UserError(
        f'Cannot read the table of AugReg models {path}: {e}. Check the connection, '
        'or give the path of a downloaded file.') from e
  return rows


def _best(rows: Sequence[dict[str, str]], column: str, name: str) -> dict[str, str]:
  """The last of the rows with the largest value, as a stable sort gives it."""
  if not rows:
    raise UserError(f'The table of AugReg models has nothing for {name!r}.')
  return sorted(rows, key=lambda row: float(row[column] or '-inf'))[-1]
