import matplotlib
from matplotlib.figure import Figure

from secateur.report.chart_files import write_chart


def _figure() -> Figure:
    figure = Figure(layout="constrained")
    figure.add_subplot().plot([0, 1], [1, 0])
    return figure


def test_the_same_bytes_whatever_was_written_before(tmp_path):
    write_chart(_figure, [tmp_path / "a.png", tmp_path / "a.pdf", tmp_path / "a.svg"])
    write_chart(_figure, [tmp_path / "b.svg", tmp_path / "b.pdf"])
    for kind in ("svg", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_users_own_settings_neither_show_nor_change(tmp_path):
    write_chart(_figure, [tmp_path / "a.svg"])
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30}):
        write_chart(_figure, [tmp_path / "b.svg"])
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
