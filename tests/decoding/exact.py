"""Slow, plain numpy twins of the decoder: laws by enumeration.

Written from the papers and from the order of the transformers library, in
float64 and one row at a time, sharing no code with what they test.
"""

import itertools

import numpy as np


def law(logits, options, *, seen=(), num_new=0):
  """Law of the next token after `logits` [V]: probabilities [V]."""
  scores = np.array(logits, np.float64)
  for token, bias in options.logit_bias:
    scores[token] += bias
  penalty = options.repetition_penalty
  for token in set(seen):
    scores[token] *= penalty if scores[token] < 0 else 1 / penalty
  if num_new < options.min_new_tokens:
    scores[list(options.stop_tokens or ())] = -np.inf
  return draft_law(scores, options.temperature, options)


def draft_law(scores, temperature, options):
  """The law a drafter sees: temperature, top-k, top-p, min-p."""
  scores = np.array(scores, np.float64)
  if temperature == 0:
    return np.eye(len(scores))[np.argmax(scores)]
  scores = scores / temperature
  if 0 < options.top_k < len(scores):
    kept = np.argsort(-scores, kind='stable')[: options.top_k]
    scores[np.setdiff1d(np.arange(len(scores)), kept)] = -np.inf
  if options.top_p < 1:
    ascending = np.argsort(scores, kind='stable')
    mass = np.cumsum(softmax(scores)[ascending])
    scores[ascending[:-1][mass[:-1] <= 1 - options.top_p]] = -np.inf
  if options.min_p > 0:
    probs = softmax(scores)
    scores[probs < options.min_p * probs.max()] = -np.inf
  return softmax(scores)


def softmax(scores):
  weights = np.exp(scores - scores.max())
  return weights / weights.sum()


def law_after(model, text):
  """Law of the next token of a table model after two or more: [V]."""
  return softmax(np.asarray(model.params, np.float64)[text[-2], text[-1]])


def joint_law(model, prompt, options, length):
  """Law of the first `length` tokens of a table model: [(V+1)^length].

  Tokens after a stop token count as V. Index: see `encode`.
  """
  table = np.asarray(model.params, np.float64)
  size = table.shape[0]
  joint = np.zeros((size + 1,) * length)
  for text in itertools.product(range(size + 1), repeat=length):
    row, mass = list(prompt), 1.0
    for token in text:
      if len(row) > len(prompt) and row[-1] in (
        *(options.stop_tokens or ()),
        size,
      ):
        mass *= token == size
      elif token == size:
        mass = 0.0
      else:
        before = row[-2] if len(row) > 1 else row[-1]
        mass *= law(
          table[before, row[-1]],
          options,
          seen=row,
          num_new=len(row) - len(prompt),
        )[token]
      if mass == 0:
        break
      row.append(token)
    joint[text] = mass
  return joint.ravel()


def encode(tokens, vocab_size):
  """Texts [B, length] over 0..V (V = nothing) as indices of `joint_law`."""
  index = np.zeros(len(tokens), int)
  for column in np.asarray(tokens).T:
    index = index * (vocab_size + 1) + column
  return index
