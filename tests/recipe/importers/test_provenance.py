"""Published tables beside counted networks."""

from dataclasses import dataclass

from secateur.recipe.importers import ExpectedLayer, Provenance, check_against


@dataclass
class Row:
    name: str
    weights: int
    nonzeros: int


@dataclass
class Counts:
    layers: list[Row]
    sparse_macs: int = 0


PUBLISHED = Provenance(
    "distiller",
    "f.yaml",
    layers=(ExpectedLayer("a", (10, 10), 100, 20), ExpectedLayer("b", (5, 10), 50, 50)),
    weights=150,
    nonzeros=70,
)


def test_the_same_nonzeros_agree():
    check = check_against(PUBLISHED, Counts([Row("a", 100, 20), Row("b", 50, 50)]))
    assert check.agrees and "all 2 published layers" in str(check)


def test_one_nonzero_less_where_two_weights_were_equal_agrees():
    assert check_against(PUBLISHED, Counts([Row("a", 100, 19), Row("b", 50, 50)])).agrees


def test_what_differs_is_listed():
    check = check_against(PUBLISHED, Counts([Row("a", 100, 40), Row("c", 50, 50)]))
    assert not check.agrees
    assert [d.name for d in check.differences] == ["a", "b", "total"]
    assert "published 20, found 40" in str(check) and "no such layer" in str(check)


def test_a_tensor_of_another_size_is_told_by_its_size():
    check = check_against(PUBLISHED, Counts([Row("a", 80, 20), Row("b", 50, 50)]))
    assert [(d.name, d.expected, d.found) for d in check.differences] == [("a", "100 weights", "80")]


def test_a_file_without_a_table_agrees_with_nothing():
    check = check_against(Provenance("msbench", "f.yaml"), Counts([]))
    assert not check.agrees and "no table" in str(check)
