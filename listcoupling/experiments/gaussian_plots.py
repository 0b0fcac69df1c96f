"""Fig. 2 of Rowan, Phan, Khisti (2025) and its twin in mean squared error."""

import numpy as np

from listcoupling.experiments import plots

# scheme: label, colour, line, marker
_STYLE = {
  'gls': ('GLS, iid labels (paper)', plots.RED, '-', 'o'),
  'shared_race': ('shared race (paper)', plots.ORANGE, '--', 's'),
  'interval': ('interval labels', plots.BLUE, '-', '^'),
  'interval_mse': ('interval labels, for MSE', plots.SKY, '-', 'v'),
  'seed_aware': ('decoder knows the cells', plots.GREEN, '-', 'D'),
  'modulo': ('modulo quantiser', plots.PINK, '--', 'x'),
  'modulo_mse': ('modulo quantiser, for MSE', plots.PINK, ':', '+'),
  'limit_list': ('limit', plots.BLACK, ':', None),
  'limit_wyner_ziv': ('Wyner-Ziv', plots.BLACK, '--', None),
}


def rate_distortion(rows: list[dict], path) -> None:
  """Both distortions against the bits of a message, a column per K."""
  counts = sorted({row['num_decoders'] for row in rows})
  with plots.figure(path, size=(2.6 * len(counts) + 2.0, 5.4)) as canvas:
    axes = canvas.subplots(2, len(counts), sharex=True, squeeze=False)
    for column, n in enumerate(counts):
      here = [row for row in rows if row['num_decoders'] == n]
      for ax, name in zip(axes[:, column], ('mean_db', 'mse_db')):
        _curves(ax, here, name)
      axes[0, column].set_title(f'K = {n}')
      axes[1, column].set_xlabel('bits per message')
    axes[0, 0].set_ylabel('mean of decibels')
    axes[1, 0].set_ylabel('mean squared error, dB')
    handles = {}
    for ax in axes.ravel():
      handles |= dict(zip(*ax.get_legend_handles_labels()[::-1]))
    canvas.legend(handles.values(), handles.keys(), loc='outside right center')


def _curves(ax, rows, name):
  for scheme, (label, color, line, marker) in _STYLE.items():
    part = [r for r in rows if r['scheme'] == scheme and name in r]
    if part:
      bits = np.log2([r['num_messages'] for r in part])
      ax.errorbar(
        bits,
        [r[name] for r in part],
        yerr=[r.get(name + '_se') or 0.0 for r in part],
        color=color,
        linestyle=line,
        marker=marker,
        label=label,
      )
  for row in rows:
    if row['scheme'] == 'no_message':
      ax.axhline(row[name], color='0.5', linestyle='-.', label='no message')
