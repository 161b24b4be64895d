"""Units cover the work once, have no more than what is left, and are as many as the threads need."""

from hypothesis import given
from hypothesis import strategies as st

from engine.harness import empty_context
from secateur.engine.lowering.parts import UNITS_PER_THREAD, parts_of, parts_of_rows

counts = st.integers(1, 500)


@given(counts, st.integers(1, 10**6), st.sampled_from([1, 16, 64]), st.integers(1, 8))
def test_elements(planes, length, multiple, threads):
    context = empty_context("avx2")
    context.threads = threads
    part, parts = parts_of(context, planes, length, multiple)
    assert part % multiple == 0 and part >= 1024
    assert (parts - 1) * part < length <= parts * part
    few = planes * parts < UNITS_PER_THREAD * threads
    assert not few or length <= 1024 * parts * 2, "units are few only where they would become too small"


@given(counts, st.integers(1, 1000), st.integers(1, 8))
def test_rows(planes, height, threads):
    context = empty_context("avx2")
    context.threads = threads
    rows, parts = parts_of_rows(context, planes, height)
    assert rows >= 1 and (parts - 1) * rows < height <= parts * rows
    assert planes * parts >= min(UNITS_PER_THREAD * threads, planes * height) / 2


def test_nothing_to_do():
    assert parts_of(empty_context("avx2"), 1, 0)[1] == 0
