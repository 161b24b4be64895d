"""The picture of a frontier shows every point, and says what it is without labels."""

from secateur.posttraining.frontier import Frontier, Point
from secateur.posttraining.target import Target
from secateur.report.frontier_chart import frontier_figure, write_frontier_chart

DENSE = {"sparsity": 0.0, "macs": 1000.0}


def made(figures):
    points = [
        Point(Target("sparsity", share), {"sparsity": share, "macs": 1000 * (1 - share)}, share, figures(share), {})
        for share in (0.3, 0.6)
    ]
    points.append(Point(Target("macs", 0.5, True), {"sparsity": 0.4, "macs": 500.0}, 0.4, figures(0.4), {}))
    return Frontier(DENSE, tuple(points), {}, figures(0.0))


def test_a_panel_for_each_cost_with_all_points():
    figure = frontier_figure(made(lambda share: {"top1": 90 - 10 * share, "divergence": share}), "<net> $x$")
    assert [axes.get_ylabel() for axes in figure.axes] == ["test top-1, %"] * 2
    sparsity, macs = figure.axes
    lines = {line.get_label(): line for line in sparsity.get_lines()}
    assert [round(float(x), 6) for x in lines["made for this"].get_xdata()] == [30.0, 60.0]
    assert list(lines["dense"].get_ydata()) == [90, 90]
    assert sorted(float(x) for x in next(iter(macs.get_lines())).get_xdata()) == [40.0, 70.0]
    assert macs.xaxis_inverted()


def test_without_labels_the_answers_are_compared(tmp_path):
    found = made(lambda share: {"divergence": share, "same_class": 100 - share})
    assert frontier_figure(found).axes[0].get_ylabel() == "same class as the dense network, %"
    write_frontier_chart(found, tmp_path / "a.png", tmp_path / "a.svg")
    write_frontier_chart(found, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_nothing_measured_is_said(tmp_path):
    write_frontier_chart(Frontier(DENSE, (), {"macs": "out of reach"}), tmp_path / "a.svg")
    assert "no network was measured" in (tmp_path / "a.svg").read_text()
