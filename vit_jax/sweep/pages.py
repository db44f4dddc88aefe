"""A page of headings, paragraphs and tables, written as Markdown and as HTML."""

import base64
import dataclasses
import html
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Heading:
  text: str
  level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
  text: str


@dataclasses.dataclass(frozen=True)
class Table:
  """`rows` of texts under `header`; columns in `numeric` are aligned to the right."""
  header: tuple[str, ...]
  rows: list[tuple[str, ...]]
  numeric: tuple[int, ...] = ()
  # Rows that stand out, by their index.
  strong: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Image:
  """A PNG file beside the page."""
  path: pathlib.Path
  alt: str


Block = Heading | Paragraph | Table | Image


def to_markdown(blocks: Sequence[Block]) -> str:
  """GitHub's dialect; images are linked."""
  return '\n\n'.join(_MARKDOWN[type(block)](block) for block in blocks) + '\n'


def to_html(blocks: Sequence[Block], title: str) -> str:
  """One file that needs no other: images are embedded."""
  body = '\n'.join(_HTML[type(block)](block) for block in blocks)
  return _PAGE.format(title=html.escape(title), body=body)


def _markdown_table(table: Table) -> str:
  def line(texts: Iterable[str]) -> str:
    return '| ' + ' | '.join(texts) + ' |'
  def cell(text: str, strong: bool) -> str:
    text = text.replace('|', '\\|')
    return f'**{text}**' if strong and text else text
  rule = ['---:' if i in table.numeric else '---' for i in range(len(table.header))]
  return '\n'.join([line(table.header), line(rule), *(
      line([cell(text, i in table.strong) for text in row])
      for i, row in enumerate(table.rows))])


def _html_table(table: Table) -> str:
  def row(texts: Sequence[str], tag: str, strong: bool = False) -> str:
    cells = ''.join(
        f'<{tag}{" class=number" if i in table.numeric else ""}>'
        f'{html.escape(text)}</{tag}>' for i, text in enumerate(texts))
    return f'<tr{" class=strong" if strong else ""}>{cells}</tr>'
  body = '\n'.join(row(texts, 'td', i in table.strong)
                   for i, texts in enumerate(table.rows))
  return (f'<table>\n<thead>{row(table.header, "th")}</thead>\n'
          f'<tbody>\n{body}\n</tbody>\n</table>')


def _html_image(image: Image) -> str:
  data = base64.b64encode(image.path.read_bytes()).decode()
  return f'<img src="data:image/png;base64,{data}" alt="{html.escape(image.alt)}">'


_MARKDOWN: dict[type, Callable[[Any], str]] = {
    Heading: lambda b: f'{"#" * b.level} {b.text}',
    Paragraph: lambda b: b.text,
    Table: _markdown_table,
    Image: lambda b: f'![{b.alt}]({b.path.name})',
}
_HTML: dict[type, Callable[[Any], str]] = {
    Heading: lambda b: f'<h{b.level}>{html.escape(b.text)}</h{b.level}>',
    Paragraph: lambda b: f'<p>{html.escape(b.text)}</p>',
    Table: _html_table,
    Image: _html_image,
}

_PAGE = '''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem;
       margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; font-size: .9rem; display: block;
        overflow-x: auto; margin: 1rem 0; }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left;
         vertical-align: top; }}
th {{ border-bottom: 2px solid #888; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.number {{ white-space: nowrap; }}
.strong td {{ font-weight: 600; background: #f3f6fa; }}
img {{ max-width: 100%; }}
</style>
</head>
<body>
{body}
</body>
</html>
'''
