"""Configs: what is missing, misspelt or impossible is named."""

import pytest
from ml_collections import config_dict

from listcoupling.config_fields import Field, check_config

_FIELDS = {
  'trials': Field(int, least=2),
  'rate': Field(float, above=0),
  'share': Field(float, least=0, most=1),
  'counts': Field(int, least=1, many=True),
  'kind': Field(str, among=('a', 'b')),
  'kinds': Field(str, among=('first', 'last'), many=True, note='none is first'),
  'name': Field(str, empty=True),
  'model': {'width': Field(int, least=1), 'bias': Field(bool)},
}
_CONFIG = dict(
  trials=2, rate=1, share=1, counts=(1, 2), kind='a', kinds=('last',), name='',
  model=dict(width=1, bias=False),
)  # fmt: skip


@pytest.mark.parametrize(
  'change, message',
  [
    ({'trials': 1}, 'config.trials must be int of at least 2, got 1'),
    ({'trials': 2.0}, 'config.trials .* got 2.0'),
    ({'trials': True}, 'config.trials'),
    ({'rate': 0.0}, 'config.rate must be float greater than 0, got 0.0'),
    ({'rate': float('nan')}, 'config.rate'),
    ({'rate': float('inf')}, 'config.rate'),
    ({'share': 1.5}, 'must be float of at least 0 and at most 1, got 1.5'),
    ({'rate': '1'}, "config.rate .* got '1'"),
    ({'counts': ()}, 'config.counts must be a non-empty list of int'),
    ({'counts': 3}, 'config.counts'),
    ({'counts': (1, 0)}, r'config.counts .* got \(1, 0\)'),
    ({'kind': 'c'}, "config.kind must be one of a, b, got 'c'"),
    ({'kinds': 'last'}, 'must be names among first, last, .*; none is first.'),
    ({'kinds': ('last', 'fist')}, "'fist'.; did you mean 'first'[?]$"),
    ({'name': None}, 'config.name must be str, got None'),
    ({'model': 1}, 'config.model must be a config'),
    ({'model': {'width': 0, 'bias': True}}, 'config.model.width'),
    ({'model': {'widht': 1, 'bias': True}}, 'model is misspelt: widht for wid'),
    ({'steps': 1}, 'has the unknown steps; is it for another'),
  ],
)
def test_wrong_configs_are_refused_by_name(change, message):
  check_config(config_dict.ConfigDict(_CONFIG), _FIELDS)
  with pytest.raises(ValueError, match=message):
    check_config(_CONFIG | change, _FIELDS)


def test_a_config_of_another_script_is_told():
  with pytest.raises(ValueError, match='unknown b and lacks a; .* another'):
    check_config({'b': 1}, {'a': Field(int)})
