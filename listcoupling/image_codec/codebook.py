"""The codebook of an image, which its encoder and decoders draw from one key.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: candidates from the
prior N(0, I) of a beta-VAE, their labels and the keys of their races. All of
image r depends on (key, r) alone.

Legend: B images, N candidates, D latent size, L messages, G groups.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import gumbel
from listcoupling.compression import codec


class Codebook(NamedTuple):
  """Candidates of B images and the keys of what else is shared."""

  latents: jax.Array  # [B, N, D] float32
  race_keys: jax.Array  # [B]
  label_keys: jax.Array  # [B]


def draw(
  key: jax.Array, rows: jax.Array, num_candidates: int, latent_size: int
) -> Codebook:
  """The codebooks of the images `rows`.

  Args:
    key: typed key of the file or of the trial.
    rows: [B] int32, which images.
    num_candidates: N, static.
    latent_size: D, static.

  Returns:
    `Codebook`; more rows leave the others alone.

  Example:
    >>> book = draw(gumbel.seed_key(0), jnp.arange(2), 5, 3)
    >>> book.latents.shape
    (2, 5, 3)
  """

  def one(row):
    keys = {
      domain: gumbel.domain_key(key, domain, row)
      for domain in (
        gumbel.Domain.CODEBOOK, gumbel.Domain.RACES, gumbel.Domain.LABELS,
      )
    }  # fmt: skip
    latents = jax.random.normal(
      keys[gumbel.Domain.CODEBOOK], (num_candidates, latent_size), jnp.float32
    )
    return Codebook(
      latents, keys[gumbel.Domain.RACES], keys[gumbel.Domain.LABELS]
    )

  return jax.vmap(one)(rows)


def draw_labels(
  codebook: Codebook,
  kind: str,
  num_messages,
  *,
  num_groups: int = 1,
  width: float = 0.0,
) -> jax.Array:
  """Labels of the candidates that do not look at any image.

  Args:
    codebook: from `draw`.
    kind: "random" (the paper), "balanced" or "lattice".
    num_messages: [] L; may be traced but for lattice labels.
    num_groups: G.
    width: of lattice labels.

  Returns:
    [B, N] int32 in 0..L G - 1.
  """
  count, groups = codebook.latents.shape[1], {'num_groups': num_groups}

  def one(key, latents):
    if kind == 'random':
      return codec.random_labels(key, count, num_messages, **groups)
    if kind == 'balanced':
      return codec.balanced_labels(key, count, num_messages, **groups)
    offset = codec.lattice_dither(
      key, width, num_messages, latents.shape[1], **groups
    )
    return codec.lattice_labels(latents, width, num_messages, offset, **groups)

  return jax.vmap(one)(codebook.label_keys, codebook.latents)
