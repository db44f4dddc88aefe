"""Measurements of a model's parameters: `run(params) -> {name: value}`.

`opening.open_all` makes those of a run: its own splits and `config.evaluators`.
"""
