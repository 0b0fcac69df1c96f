"""Draws race and tree in docs/images, the pictures of README, as PNG and PDF.

python docs/figures.py
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

import listcoupling as lc
from listcoupling.decoding import loop
from listcoupling.decoding.generate import prepare
from listcoupling.decoding.methods import METHODS
from listcoupling.experiments import plots

_FOLDER = pathlib.Path(__file__).parent / 'images'
_INK, _GREY, _PALE = '#25303b', '#8a949e', '#dde2e7'
_ALICE, _BOB, _TAKEN = plots.BLUE, plots.RED, plots.GREEN

_TOKENS = ('the', 'a', 'its', 'no', 'one', 'any')
_P = np.array([0.34, 0.28, 0.16, 0.10, 0.07, 0.05])  # Alice
_Q = np.array([0.15, 0.42, 0.06, 0.09, 0.24, 0.04])  # Bob


def _track(ax, times, color, end, labels, marker):
  """One race: a line per atom, up to its arrival; the winner stands out."""
  winner = int(np.argmin(times))
  for row, time in enumerate(times):
    shade = color if row == winner else _PALE
    ax.plot([0, min(time, end)], [row, row], color=shade, lw=1.6, zorder=1)
    if time <= end:
      size, shade = (75, color) if row == winner else (24, _GREY)
      ax.scatter(time, row, size, color=shade, marker=marker, lw=0, zorder=3)
    else:
      ax.text(end, row, '›', color=_GREY, va='center', ha='left')
  ax.axvline(times[winner], color=color, lw=0.8, ls=':', zorder=0)
  ax.set(xlim=(0, end), ylim=(len(times) - 0.4, -0.6), xticks=[])
  ax.set_yticks(range(len(times)), labels)
  ax.tick_params(axis='y', length=0)
  ax.spines['left'].set_visible(False)


def draw_race(path, num_drafts=2):
  """Alice's races on shared noise, and Bob's on the best of them."""
  key = lc.gumbel.seed_key(59)
  sample = lc.gumbel_list_sampling(
    key, jnp.log(_P), jnp.log(_Q), num_drafts=num_drafts
  )
  noise = np.asarray(
    lc.gumbel.exponential_streams(key, len(_P), num_drafts)
  )  # [K, N]
  blank = [''] * len(_P)
  with plots.figure(path, (9, 2.5)) as figure:
    axes = figure.subplots(1, num_drafts + 1)
    for k, ax in enumerate(axes[:-1]):
      _track(ax, noise[k] / _P, _ALICE, 4.2, blank if k else _TOKENS, 'o')
      ax.set_xlabel(f'arrival times  $S^{{({k + 1})}}_i / p_i$')
      word = _TOKENS[int(sample.proposals[k])]
      ax.set_title(
        f'Alice, race {k + 1}: "{word}"', color=_ALICE, weight='bold'
      )
    _track(axes[-1], noise.min(0) / _Q, _BOB, 2.6, blank, 's')
    axes[-1].set_xlabel('the earlier of both races  $\\min_k S^{(k)}_i / q_i$')
    word = _TOKENS[int(sample.target)]
    verdict = 'on the list' if sample.is_match else 'not on the list'
    axes[-1].set_title(f'Bob: "{word}", {verdict}', color=_BOB, weight='bold')
    for ax in axes:
      ax.grid(False)


def _one_block(prompt, place):
  """The first tree after `place` tokens: root, tree and what is written."""
  target, drafter = lc.shipped_pair()
  tokens, lengths = lc.encode_prompts(target.tokenizer, prompt)
  key, options = lc.gumbel.seed_key(0), lc.GenerateOptions()
  call = prepare(key, target, drafter, tokens, lengths, options)
  state, info = call.prefill()
  block = call.compiled(loop.block, state, info)  # consumes state and info
  while int(state.lengths[0]) < place:
    state, info = block(*call.arguments, state, info)
  tree, _ = METHODS[options.method].propose(
    call.keys,
    call.params.drafters,
    state.draft,
    lc.decoding.Text(state.tokens, state.lengths - 1),
    ~state.done,
    call.sampler.speculation,
    call.sampling,
  )
  start = int(state.lengths[0])
  state, _ = block(*call.arguments, state, info)
  row = np.asarray(state.tokens[0, : int(state.lengths[0])])

  def show(token):
    text = target.tokenizer.decode([int(token)]).replace('\n', '⏎')
    return re.sub('·{4,}', '···', text.replace(' ', '·')) or '?'

  return row[start - 1], jax.tree.map(np.asarray, tree), row[start:], show


def _rows(parents):
  """A height for every node, so that edges do not cross."""
  rows, used = {}, 0

  def place(node):
    nonlocal used
    children = np.flatnonzero(parents == node)
    if children.size:
      rows[node] = np.mean([place(child) for child in children])
    else:
      rows[node], used = used, used + 1
    return rows[node]

  place(0)
  return rows


def _accepted(tokens, parents, written):
  """Nodes on the path that the target took."""
  alive, path = [0], []
  for token in written:
    alive = np.flatnonzero(np.isin(parents, alive) & (tokens == token))
    path += alive.tolist()
  return path


def _label(ax, x, y, text, color, bold=False):
  ax.text(
    *(x, y, text),
    ha='center',
    va='center',
    color=color,
    weight='bold' if bold else 'normal',
    family='monospace',
    fontsize=8,
    zorder=3,
    bbox=dict(boxstyle='round,pad=.3', fc='white', ec=color, lw=1),
  )


def draw_tree(path, prompt='def __init__(self, ', place=48):
  """A draft tree, the path that the target accepts and the token it adds."""
  root, tree, written, show = _one_block(prompt, place)
  tokens = np.append(root, tree.tokens[0])  # by node, the root first
  parents, depths = np.append(-1, tree.parents[0]), np.append(0, tree.depths[0])
  parents[tokens < 0] = -1
  rows, taken = _rows(parents), _accepted(tokens, parents, written)
  with plots.figure(path, (9, 3.1)) as figure:
    ax = figure.subplots()
    for node, y in rows.items():
      if not node:
        continue
      color, x = (_TAKEN, 3) if node in taken else (_PALE, 1.2)
      ends = [depths[node] - 1, depths[node]], [rows[parents[node]], y]
      ax.plot(*ends, color=color, lw=x, zorder=1)
      color = _TAKEN if node in taken else _GREY
      _label(ax, depths[node], y, show(tokens[node]), color, node in taken)
    _label(ax, 0, rows[0], show(root), _INK)
    last = taken[-1] if taken else 0
    x, y, top = depths[last], rows[last], -1.1
    ax.plot([x, x + 0.8], [y, top], color=_BOB, lw=1.2, ls='--', zorder=1)
    _label(ax, x + 0.8, top, show(written[-1]), _BOB, bold=True)
    ax.text(x + 0.95, top, 'the token it adds', color=_BOB, va='center')
    lowest = max(rows, key=rows.get)
    captions = (
      (0, top, 'the text so far ends here', _INK),
      (1.4, top, 'accepted: what the target would write anyway', _TAKEN),
      (depths[lowest] + 0.4, rows[lowest], 'guessed in vain', _GREY),
    )
    for x, y, text, color in captions:
      ax.text(x - 0.15, y, text, color=color, va='center')
    bottom = max(rows.values()) + 0.6
    ax.set(xlim=(-0.3, depths.max() + 1.5), ylim=(bottom, -1.7))
    ax.axis('off')


def main():
  """Both pictures."""
  _FOLDER.mkdir(exist_ok=True)
  draw_race(_FOLDER / 'race.png')
  draw_tree(_FOLDER / 'tree.png')


if __name__ == '__main__':
  main()
