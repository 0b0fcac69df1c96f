"""Plots of the language experiments, in the style of `plots`."""

import os
from collections.abc import Sequence

import numpy as np

from listcoupling.experiments import plots

_COLORS = {
  'gumbel_tree': plots.GREEN,
  'gumbel_chains': plots.BLUE,
  'gls': plots.RED,
  'gls_strong': plots.PINK,
  'specinfer': plots.ORANGE,
  'spectr': plots.SKY,
  'single': '0.45',
  'block': '0.65',
  'autoregressive': '0.85',
}
_MATCHING = {
  'optimum_without_replacement': ('optimum, top-K', plots.BLACK, ':'),
  'optimum': ('optimum, iid drafts', plots.BLACK, '-'),
  'shared_race': ('shared-race list, sampled', plots.GREEN, '-'),
  'spectr': ('SpecTr', plots.SKY, '-'),
  'specinfer': ('SpecInfer', plots.ORANGE, '-'),
  'exact': ('GLS, exact', plots.RED, '-'),
  'bound': ('GLS, Theorem 1', plots.RED, '--'),
}


def _distinct(rows, name) -> list:
  return list(dict.fromkeys(row[name] for row in rows))


def _panels(canvas, count):
  return canvas.subplots(1, count, squeeze=False)[0]


def block_efficiency(rows: Sequence[dict], path: str | os.PathLike) -> None:
  """Bars of tokens per target call: one panel per data set.

  Args:
    rows: of `language_tables.run`.
    path: of the PNG.
  """
  datasets = _distinct(rows, 'dataset')
  shown = [row for row in rows if row['method'] != 'autoregressive']
  height = 1.0 + 0.2 * len(shown) / len(datasets)
  with plots.figure(path, size=(0.8 + 2.8 * len(datasets), height)) as canvas:
    for axes, dataset in zip(_panels(canvas, len(datasets)), datasets):
      own = [row for row in shown if row['dataset'] == dataset][::-1]
      axes.grid(axis='y', visible=False)
      axes.barh(
        range(len(own)),
        [row['block_efficiency'] for row in own],
        xerr=[row['block_efficiency_se'] or 0 for row in own],
        color=[_COLORS[row['method']] for row in own],
        height=0.7,
      )
      names = [_label(row) for row in own] if dataset == datasets[0] else []
      axes.set_yticks(range(len(own)) if names else [], names)
      axes.set_ylim(-0.6, len(own) - 0.4)
      axes.set_xlabel('tokens per target call')
      axes.set_title(dataset)


def _label(row) -> str:
  parts = [row['method'], f'K={row["num_drafts"]}']
  return '  '.join(parts + [row['draft_temperatures']]).strip()


def matching(rows: Sequence[dict], path: str | os.PathLike) -> None:
  """Mean matching probability of a step against K: a panel per data set.

  Args:
    rows: of `matching.run`.
    path: of the PNG.
  """
  datasets = _distinct(rows, 'dataset')
  size = (2.0 + 2.7 * len(datasets), 3.2)
  with plots.figure(path, size=size) as canvas:
    panels = _panels(canvas, len(datasets))
    for axes, dataset in zip(panels, datasets):
      own = [row for row in rows if row['dataset'] == dataset]
      counts = [row['num_drafts'] for row in own]
      for name, (label, color, line) in _MATCHING.items():
        values = [row[name] for row in own]
        axes.plot(counts, values, color=color, linestyle=line, label=label)
      axes.errorbar(
        counts,
        [row['sampled'] for row in own],
        [row['sampled_se'] or 0 for row in own],
        color=plots.RED,
        linestyle='none',
        marker='o',
        markerfacecolor='white',
        label='GLS, sampled',
      )
      axes.set_xticks(counts)
      axes.set_xlabel('number of drafts $K$')
      axes.set_title(dataset)
    panels[0].set_ylabel('mean matching probability')
    panels[-1].legend(loc='center left', bbox_to_anchor=(1.0, 0.5))


def consistency(rows: Sequence[dict], path: str | os.PathLike) -> None:
  """Bars of ROUGE-L between two runs: methods, grouped by data set.

  Args:
    rows: of `consistency.run`.
    path: of the PNG.
  """
  datasets, methods = _distinct(rows, 'dataset'), _distinct(rows, 'method')
  width = 0.8 / len(methods)
  with plots.figure(path, size=(2.4 + 1.4 * len(datasets), 3.0)) as canvas:
    axes = canvas.subplots()
    for place, method in enumerate(methods):
      own = [row for row in rows if row['method'] == method]
      axes.bar(
        np.arange(len(own)) + (place - (len(methods) - 1) / 2) * width,
        [row['rouge_l'] for row in own],
        width,
        yerr=[row['rouge_l_se'] or 0 for row in own],
        color=_COLORS[method],
        label=method,
      )
    axes.set_xticks(range(len(datasets)), datasets)
    axes.set_ylabel('ROUGE-L of two runs')
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
