"""Losses of the beta-VAE and of its estimator.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, appendix: |a - g(w, t)|^2 +
beta KL(q(w | a) | N(0, I)), summed over pixels. The estimator learns

*   "bce" (paper): joint pairs (w, t) against pairs of another image, the
    product of the marginals; its optimum is log p(w | t) / p(w);
*   "in_batch": which latent of the batch belongs to t (InfoNCE); its optimum
    is that of "bce" plus a function of t, which drops out of a race; or
*   "contrastive": which of M + 1 latents belongs to t, the others drawn from
    the prior. Its optimum is p(w | t) / prior(w) times a factor of t: the race
    weight itself, whether or not the aggregate posterior has reached the
    prior.

Legend: B batch, N latents of an image, D latent size, [h, w] crop.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from listcoupling.data import side_information
from listcoupling.models import vae

ESTIMATOR_LOSSES = ('bce', 'in_batch', 'contrastive')


def estimator_loss(logits_fn, key, latent, side, kind, num_negatives):
  """Loss [] of the estimator on a batch of joint pairs.

  Args:
    logits_fn: (latents [B, N, D], side [B, h, w]) -> [B, N].
    key: typed key; consumed.
    latent: [B, D], drawn from q(w | a).
    side: [B, h, w] of the same images.
    kind: one of `ESTIMATOR_LOSSES`.
    num_negatives: M of "contrastive".
  """
  batch, size = latent.shape
  if kind == 'bce':
    pairs = jnp.stack([latent, jnp.roll(latent, 1, axis=0)], 1)  # [B, 2, D]
    targets = jnp.array([[1.0, 0.0]])
    logits = logits_fn(pairs, side)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean()
  if kind == 'in_batch':
    pool = jnp.broadcast_to(latent, (batch, batch, size))  # [B, B, D]
    odds = jax.nn.log_softmax(logits_fn(pool, side))  # [B, B]
    return -jnp.diagonal(odds).mean()
  negatives = jax.random.normal(key, (num_negatives, size))  # [M, D]
  negatives = jnp.broadcast_to(negatives, (batch, num_negatives, size))
  pool = jnp.concatenate([latent[:, None], negatives], 1)  # [B, 1 + M, D]
  return -jax.nn.log_softmax(logits_fn(pool, side))[:, 0].mean()


def loss_fn(params, key, left, right, config, model_config):
  """Sum of the three losses [] and their parts, on a batch of halves.

  The parts share no parameter: the latent is a constant to the estimator.
  """
  crop_key, latent_key, dropout_key, negative_key = jax.random.split(key, 4)
  nets = vae.networks(model_config)
  side = jax.vmap(
    lambda k, x: side_information.random_crop(k, x, model_config.side_shape)
  )(jax.random.split(crop_key, left.shape[0]), left)  # [B, h, w]
  mean, log_std = nets.encode(params, right)  # [B, D]
  latent = mean + jnp.exp(log_std) * jax.random.normal(latent_key, mean.shape)
  image = vae.VAE(model_config).apply(
    {'params': params},
    latent,
    side,
    True,
    method=vae.VAE.decode,
    rngs={'dropout': dropout_key},
  )
  axes = tuple(range(1, right.ndim))
  squares = jnp.sum((image - right) ** 2, axes).mean()
  kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
  kl = jnp.sum(kl, -1).mean()
  ratio = estimator_loss(
    functools.partial(nets.estimate, params),
    negative_key,
    jax.lax.stop_gradient(latent),
    side,
    config.estimator_loss,
    config.num_negatives,
  )
  alone = nets.side_only(params, side)
  alone = jnp.sum((alone - right) ** 2, axes).mean()
  pixels = right[0].size
  metrics = {
    'mse': squares / pixels,
    'kl_bits': kl / jnp.log(2.0),
    'estimator_loss': ratio,
    'side_only_mse': alone / pixels,
  }
  return squares + config.beta * kl + ratio + alone, metrics
