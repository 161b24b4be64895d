"""The structure table on tensors whose zeros are known."""

import numpy as np
import pytest

from secateur.graph import structure_table


def test_a_convolution_with_known_zeros():
    weight = np.ones((4, 5, 3, 3), np.float32)
    weight[0] = 0  # one of 4 filters
    weight[:, 1:3] = 0  # two of 5 input channels
    weight[3, 4] = 0  # one more kernel
    weight[1, 0, 0, 0] = 0  # one more weight
    row = structure_table({"conv": weight}).rows[0]
    kernels = 5 + 3 * 2 + 1
    assert (row.filters, row.channels) == (25.0, 40.0)
    assert row.kernels == pytest.approx(100 * kernels / 20)
    assert row.fine == pytest.approx(100 * (kernels * 9 + 1) / 180)
    assert (row.rows, row.columns) == (0.0, 0.0)
    assert (row.dense, row.nonzeros) == (180, 180 - kernels * 9 - 1)


def test_a_matrix_is_read_transposed():
    """DeGirum's 70 % file: Rows 0.24414 % of fc are 5 of 2048 input features (ALGORITHMS.md L1)."""
    weight = np.ones((1000, 2048), np.float32)
    weight[:, :5] = 0
    weight[:10] = 0
    row = structure_table({"fc": weight}).rows[0]
    assert f"{row.rows:.5f}" == "0.24414"
    assert row.columns == 1.0
    assert (row.channels, row.kernels, row.filters) == (0.0, 0.0, 0.0)


def test_kernels_equal_fine_for_1x1_layers():
    weight = (np.random.default_rng(0).random((8, 16, 1, 1)) > 0.7).astype(np.float32)
    row = structure_table({"conv": weight}).rows[0]
    assert row.kernels == row.fine > 0


def test_moments_run_over_all_elements():
    row = structure_table({"fc": np.array([[1.0, -1.0], [0.0, 4.0]], np.float32)}).rows[0]
    assert (row.mean, row.abs_mean) == (1.0, 1.5)
    assert row.std == pytest.approx(np.sqrt((0 + 4 + 1 + 9) / 3))


def test_total_line_and_text():
    table = structure_table({"a": np.ones((2, 2), np.float32), "b": np.zeros((3, 2, 1, 1), np.float32)})
    assert (table.total.dense, table.total.nonzeros, table.total.fine) == (10, 4, 60.0)
    lines = str(table).splitlines()
    assert lines[0].split()[:2] == ["name", "shape"] and lines[0].endswith("Abs-Mean")
    assert lines[-1].split()[:5] == ["total", "-", "10", "4", "0.00000"] and "60.00000" in lines[-1]


def test_empty_and_tiny_tensors():
    assert str(structure_table({}))
    assert structure_table({"one": np.ones((1, 1), np.float32)}).rows[0].std == 0
    assert structure_table({"none": np.ones((0, 3), np.float32)}).rows[0].fine == 0
