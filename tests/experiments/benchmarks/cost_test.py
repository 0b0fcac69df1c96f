"""Large pairs on paper, and a program of one device beside paper."""

import pytest

from listcoupling import gumbel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import cost
from listcoupling.models.cost import H100
from listcoupling.models.transformer_config import TransformerConfig


@pytest.mark.parametrize('pair', cost.PAIRS)
def test_a_tree_pays_less_the_more_rows_there_are(pair):
  table = cost.paper(machines=(H100,), batches=(1, 128))
  rows = [table.row(x) for x in table.settings if x['pair'] == pair]
  gains = [row['best_tokens_per_s'] / row['plain_tokens_per_s'] for row in rows]
  assert gains[0] > gains[1] > 1
  assert rows[0]['best_nodes'] >= rows[1]['best_nodes']


def test_one_device_multiplies_what_paper_says():
  table = cost.scaling(
    gumbel.seed_key(0),
    counts=(1, 1 << 20),  # more than there are
    config=TransformerConfig(512, 128, 1, 2, 1, 32, 512, tie_embeddings=False),
    options=GenerateOptions(num_drafts=2, draft_length=2, max_new_tokens=64),
  )
  assert table.settings == [{'devices': 1, 'axis': 'tp'}]
  row = table.row(*table.settings)
  assert row['exchanges'] == row['sent_kb'] == row['paper_sent_kb'] == 0
  assert row['times_devices'] == 1
  # Norms, rotations and attention of the whole capacity come on top.
  assert 1 < row['megaflop_to_paper'] < 1.2
