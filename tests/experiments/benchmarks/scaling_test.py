"""A block's program beside its cost on paper."""

from listcoupling import gumbel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import scaling
from listcoupling.models.transformer_config import TransformerConfig


def test_one_device_multiplies_what_paper_says():
  (case,) = scaling.scaling_cases(
    gumbel.seed_key(0),
    counts=(1, 1 << 20),  # more than there are
    config=TransformerConfig(512, 128, 2, 2, 1, 32, 512, tie_embeddings=False),
    options=GenerateOptions(num_drafts=2, draft_length=2, max_new_tokens=64),
  )
  assert case.name == 'tp=1'
  row = case.measure()
  assert row['exchanges'] == row['sent_kb'] == row['paper_sent_kb'] == 0
  assert row['to_one_device'] == row['times_devices'] == 1
  # Norms, rotations and attention of the whole capacity come on top.
  assert 1 < row['megaflop_to_paper'] < 1.2
