"""Slow twins in numpy and scipy, written from the definitions.

Nothing here shares a formula with the library beyond the definition itself:
optima are linear programs over enumerated lists, integrals go through
scipy's adaptive quadrature, sums run over all pairs of atoms.
"""

import collections
import itertools

import numpy as np
from scipy import integrate, optimize

# Of `list_matching_probability`: the logarithm of the first time that its
# integral sees, and the error asked of it, ten times that of the inner ones.
FIRST, ASKED = -30, 1e-12


def list_matching_bound(drafts, q, num_drafts):
  """Theorem 1 and Proposition 5 of arXiv 2506.05632, O(K N^2)."""
  total = 0.0
  for p in drafts:
    for j in range(q.size):
      if p[j] > 0 and q[j] > 0:
        largest = np.maximum(q / q[j], p / p[j]).sum()
        total += 1 / (largest + (num_drafts - 1) / q[j])
  return total * num_drafts / len(drafts)


def _proposes(p, q, j, time):
  """P[a draft proposes j | j won at `time` in another stream]."""
  if p[j] == 0:
    return 0.0
  start = time * q[j] / p[j]

  def density(x):
    return p[j] * np.exp(-np.maximum(x * p - time * q, 0).sum())

  kinks = np.unique((time * q[p > 0]) / p[p > 0])
  ends = np.concatenate([[start], kinks[kinks > start]])
  pieces = [
    integrate.quad(density, a, b, epsabs=1e-13, epsrel=0)[0]
    for a, b in itertools.pairwise(ends)
  ]
  # Behind the last kink it decays at the rate of all of p.
  return sum(pieces) + density(ends[-1]) / p.sum()


def list_matching_probability(drafts, q):
  """P[match] of GLS, drafts [K, N]: nested adaptive quadrature."""
  num_drafts = len(drafts)

  def hit(time):
    total = 0.0
    for j, k in itertools.product(range(q.size), range(num_drafts)):
      p = drafts[k]
      own = 0.0
      if p[j] > 0:
        own = np.exp(-time * np.maximum(q[j] * p / p[j] - q, 0).sum())
      miss = 1 - own
      for other in range(num_drafts):
        if other != k:
          miss *= 1 - _proposes(drafts[other], q, j, time)
      total += q[j] / num_drafts * (1 - miss)
    return total

  def in_log(x):
    time = np.exp(x)
    weight = num_drafts * time * np.exp(-num_drafts * time)
    return weight * hit(time)

  result = integrate.quad(in_log, FIRST, 4, epsabs=ASKED, epsrel=0, limit=200)
  return result[0]


def list_law(p, num_drafts, replace):
  """{set of atoms: probability} of the list, by enumeration."""
  law = collections.defaultdict(float)
  support = np.flatnonzero(p)
  if not replace and num_drafts >= support.size:
    return {frozenset(support.tolist()): 1.0}
  tuples = (
    itertools.product(support, repeat=num_drafts)
    if replace
    else itertools.permutations(support, num_drafts)
  )
  for atoms in tuples:
    probability, left = 1.0, 1.0
    for atom in atoms:
      probability *= p[atom] / left
      left -= 0.0 if replace else p[atom]
    law[frozenset(int(a) for a in atoms)] += probability
  return dict(law)


def optimal_list_acceptance(p, q, num_drafts, replace=True):
  """max P[Y in list] over joint laws: a linear program over lists x atoms."""
  law = list_law(p, num_drafts, replace)
  pairs = [(s, j) for s, atoms in enumerate(law) for j in atoms]
  rows = np.zeros((len(law) + q.size, len(pairs)))
  for column, (s, j) in enumerate(pairs):
    rows[s, column] = 1
    rows[len(law) + j, column] = 1
  limits = np.concatenate([list(law.values()), q])
  result = optimize.linprog(-np.ones(len(pairs)), A_ub=rows, b_ub=limits)
  # Exactly: its dual's vertices are sets H of atoms, as rows are a graph's.
  least = min(
    q[list(inside)].sum()
    + sum(mass for atoms, mass in law.items() if not atoms <= set(inside))
    for size in range(q.size + 1)
    for inside in itertools.combinations(range(q.size), size)
  )
  # HiGHS may miss each row by 1e-7, and the dual's, whose sum is at most 1.
  assert abs(-result.fun - least) < 1e-7 * (len(rows) + 1)
  return least


def specinfer_probability(drafts, q):
  """P[a draft is accepted]: the residual laws do not depend on the draws."""
  law, reject = q, 1.0
  for p in drafts:
    accept = np.minimum(p, law).sum()
    reject *= 1 - accept
    if accept >= 1 - 1e-12:
      break
    law = np.maximum(law - p, 0)
    law = law / law.sum()
  return 1 - reject


def spectr_probability(p, q, num_drafts):
  """P[a draft is accepted] by k-SEQ, rho* by Brent's method."""

  def accept(rho):
    return np.minimum(p, q / rho).sum()

  def gap(rho):
    return 1 - (1 - accept(rho)) ** num_drafts - rho * accept(rho)

  rho = 1.0
  if num_drafts > 1 and gap(1.0) > 0:
    rho = optimize.brentq(gap, 1.0, num_drafts, xtol=1e-13)
  return 1 - (1 - accept(rho)) ** num_drafts
