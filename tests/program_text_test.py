"""Operations of a program's text: what is exchanged, looped over, sorted."""

from listcoupling import program_text

_TEXT = """
HloModule jit_run, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (p: bf16[8,4]) -> bf16[8,4] {
  %p = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  %gather.1 = (bf16[8,4]{1,0}, bf16[32,4]{1,0:T(8,128)}) all-gather-start(%p), dimensions={0}
  %gather.2 = bf16[32,4]{1,0} all-gather-done(%gather.1)
  %sum.1 = f32[16]{0} all-reduce(%q), to_apply=%add, metadata={op_name="jit(run)/dot_general"}
  %sum.2 = (f32[2]{0}, s32[2]{0}) all-reduce(%q, %r), to_apply=%add
  %swap = (bf16[8]{0}, bf16[8]{0}, u32[], u32[]) collective-permute-start(%s), source_target_pairs={{0,1}}
  %loop.1 = (s32[], f32[4]) while(%t), condition=%c, body=%b, metadata={op_name="jit(run)/while"}
  %loop.2 = (s32[], f32[4]) while(%t), condition=%c, body=%b, metadata={op_name="jit(run)/while/body/vmap()/scatter"}
  %sort.1 = (f32[8,500]{1,0}, s32[8,500]{1,0}) sort(%u, %v), dimensions={1}
  %sort.2 = (f32[8,50]{1,0}, s32[8,50]{1,0}) sort(%u, %v), dimensions={1}
  %sort.3 = (f32[500]{0}, u8[99]{0}) custom-call(%w), custom_call_target="__cub$DeviceRadixSort"
}
"""  # noqa: E501


def test_collectives_count_what_they_deliver():
  assert program_text.collective_bytes(_TEXT) == {
    'all-gather': 32 * 4 * 2,
    'all-reduce': 16 * 4 + 2 * 4 + 2 * 4,
    'collective-permute': 8 * 2,
  }
  assert [op.source for op in program_text.collectives(_TEXT)][1] == (
    'jit(run)/dot_general'
  )


def test_serial_loops_are_those_of_no_loop_in_the_source():
  sources = [op.source for op in program_text.serial_loops(_TEXT)]
  assert sources == ['jit(run)/while/body/vmap()/scatter']


def test_sorts_are_told_by_length_and_by_name():
  assert len(program_text.sorts(_TEXT, 500)) == 2
  assert len(program_text.sorts(_TEXT, 50)) == 3
  assert not program_text.sorts(_TEXT, 501)
