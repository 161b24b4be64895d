"""The arena: buffers that are alive together never overlap, and little is wasted."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.small_programs import Axpy
from secateur.engine.memory import GUARD, lifetimes, plan_memory
from secateur.engine.program import Buffer, Step


def chain(spans: list[tuple[int, int]], buffers: list[Buffer]) -> list[Step]:
    """Steps in which buffer i is written at the first and read at the last step of spans[i]."""
    count = 1 + max(last for _, last in spans)
    pairs = list(zip(spans, buffers, strict=True))
    return [
        Step(
            "s", Axpy(), {}, 1,
            tuple(b for (first, last), b in pairs if last == i and first != i),
            tuple(b for (first, _), b in pairs if first == i),
        )
        for i in range(count)
    ]  # fmt: skip


buffers = st.lists(
    st.tuples(
        st.integers(0, 12), st.integers(0, 5), st.integers(0, 3000), st.sampled_from("ab"),
        st.sampled_from([16, 48, 784]), st.sampled_from([1, 4, 8]),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(buffers)
def test_live_buffers_never_overlap(drawn):
    made = [Buffer(f"b{i}", size, group, align, item=item) for i, (_, _, size, group, align, item) in enumerate(drawn)]
    spans = [(first, first + length) for first, length, *_ in drawn]
    plan = plan_memory(chain(spans, made))
    regions = {region.group: region for region in plan.regions}
    owner = np.zeros((plan.size, 1 + max(last for _, last in spans)), bool)
    for buffer, (first, last) in zip(made, spans, strict=True):
        start, size = plan.places[buffer], buffer.size * buffer.item
        region = regions[buffer.group]
        assert region.start <= start and start + size <= region.start + region.size
        assert (start - region.start) % (buffer.align * buffer.item) == 0
        assert start % 64 == 0
        assert not owner[start : start + size, first : last + 1].any()
        owner[start : start + size, first : last + 1] = True
    bounds = sorted((region.start, region.start + region.size) for region in plan.regions)
    ends = [0, *(end for _, end in bounds)]
    starts = [*(start for start, _ in bounds), plan.size]
    assert all(start - end >= GUARD for end, start in zip(ends, starts, strict=True))


def test_a_chain_needs_two_tensors():
    made = [Buffer(f"b{i}", 1 << 16) for i in range(20)]
    plan = plan_memory(chain([(i, i + 1) for i in range(20)], made))
    assert plan.regions[0].size == 2 * 4 << 16


def test_best_fit_takes_the_smaller_gap():
    sizes = {"wide": 4096, "wall": 8192, "narrow": 1024, "wall2": 8000, "late": 1000}
    made = [Buffer(name, size) for name, size in sizes.items()]
    # `wide` and `narrow` are dead when `late` comes, the walls still stand.
    plan = plan_memory(chain([(0, 1), (0, 3), (0, 1), (0, 3), (2, 3)], made))
    assert plan.regions[0].size == 4 * sum(sizes.values()) - 4 * sizes["late"]


def test_what_only_lives_in_one_step_shares_with_others():
    made = [Buffer("a", 1000), Buffer("b", 1000)]
    assert plan_memory(chain([(0, 0), (1, 1)], made)).regions[0].size == 4000


def test_a_buffer_that_is_only_read_lives_always():
    zeros, other = Buffer("zeros", 64, zeroed=True), Buffer("other", 64, zeroed=True)
    steps = [Step("s", Axpy(), {}, 1, (), (other,)), Step("s", Axpy(), {}, 1, (zeros,), ())]
    assert lifetimes(steps) == {other: (0, 0), zeros: (0, 1)}
    assert len(set(plan_memory(steps).places.values())) == 2


def test_external_buffers_have_no_place():
    x = Buffer("x", 64, external="x")
    assert plan_memory([Step("s", Axpy(), {}, 1, (x,), ())]).places == {}
