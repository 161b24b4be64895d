"""The large numbers and the sentences above the page."""

from dataclasses import replace

from secateur.report.content import Accuracy, AccuracyChange, Content
from secateur.report.headline import cards, fastest, latency_cards, summary, verdicts


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def change(dense: float, compressed: float, images: int = 10_000) -> AccuracyChange:
    return AccuracyChange(Accuracy(dense, 99.0, 0.3, images), Accuracy(compressed, 99.0, 0.3, images))


def test_cards_say_what_their_numbers_are_of(content: Content) -> None:
    found = {card.label: (plain(card.value), plain(card.detail)) for card in cards(content)}
    assert found == {
        "Top-1 accuracy": ("91.02 %", "dense 91.73 %; drop 0.71 ± 0.40 points, 10,000 test images"),
        "Fewer parameters": ("5.06×", "80.2 % zeros among 268 k conv and linear weights"),
        "Less compute": ("4.91×", "40.6 M → 8.25 M MACs for one 3×32×32 image"),
        "Smaller weights file": ("4.48×", "1.08 MB → 242 kB"),
    }


def test_each_runtime_has_its_best_latency(content: Content) -> None:
    found = {card.label: (plain(card.value), plain(card.detail)) for card in latency_cards(content)}
    assert list(found) == ["PyTorch", "torch.compile", "ONNX Runtime", "OpenVINO", "Secateur"]
    assert found["Secateur"] == ("0.236 ms", "dense 0.806 ms: 3.42×; batch 1, 2 threads")
    assert found["ONNX Runtime"] == ("0.899 ms", "dense 0.899 ms: no difference; batch 1, 2 threads")
    assert all(row.threads == 2 for row in fastest(content))


def test_summary_names_the_base(content: Content) -> None:
    assert plain(summary(content)) == (
        "resnet20_cifar10 on cifar10. Pattern 1x4, sparsity 80.0 % of the weights of all convolution and linear layers "
        "(base conv_linear); criterion magnitude, allocation uniform."
    )
    assert summary(replace(content, technique=None)) == "resnet20_cifar10 on cifar10."


def test_verdicts_on_accuracy(content: Content) -> None:
    def verdict(value: AccuracyChange) -> str:
        return verdicts(replace(content, accuracy=value, latencies=()))[0]

    assert verdict(change(91.73, 91.02)) == (
        "Top-1 fell by 0.71 points, within twice the standard error of the difference (0.40 points)."
    )
    assert verdict(change(91.73, 85.0)).startswith("Top-1 fell by 6.73 points, more than twice")
    assert verdict(change(90.0, 90.5)).startswith("Top-1 rose by 0.50 points, within twice")
    assert verdict(change(90.0, 90.001)) == "Top-1 is unchanged to two decimals."


def test_verdict_on_speed(content: Content) -> None:
    speed = verdicts(replace(content, accuracy=None))
    assert [plain(sentence) for sentence in speed] == [
        "Secateur runs the compressed network 2.92× as fast as the fastest dense one (OpenVINO; batch 1, 2 threads), "
        "59 % of the 4.91× that the removed MACs promise."
    ]


def test_no_gain_is_said_plainly(content: Content) -> None:
    rows = tuple(row for row in content.latencies if row.ignores_zeros)
    assert verdicts(replace(content, accuracy=None, latencies=rows)) == (
        "No runtime measured here turned the zeros into speed: each of them ignores zeros.",
    )


def test_a_runtime_that_ignores_zeros_gets_no_credit_for_noise(content: Content) -> None:
    rows = tuple(replace(row, achieved=1.78) for row in content.latencies if row.ignores_zeros)
    assert "each of them ignores zeros" in verdicts(replace(content, accuracy=None, latencies=rows))[0]


def test_a_runtime_that_uses_zeros_in_vain_is_told(content: Content) -> None:
    rows = tuple(replace(row, achieved=1.0) for row in content.latencies)
    assert verdicts(replace(content, accuracy=None, latencies=rows)) == (
        "No runtime measured here turned the zeros into speed.",
    )


def test_a_run_that_measured_nothing_has_no_headline(content: Content) -> None:
    empty = replace(content, accuracy=None, dense=None, compressed=None, files=(), latencies=())
    assert cards(empty) == ()
    assert latency_cards(empty) == ()
    assert verdicts(empty) == ()


def test_a_network_without_zeros_boasts_no_reduction(content: Content) -> None:
    labels = [card.label for card in cards(replace(content, compressed=content.dense))]
    assert labels == ["Top-1 accuracy", "Smaller weights file"]


def test_one_accuracy_alone_says_which(content: Content) -> None:
    only = replace(content, accuracy=AccuracyChange(Accuracy(90.0, 99.0, 0.3, 900), None))
    card = cards(only)[0]
    assert (plain(card.value), plain(card.detail)) == ("90.00 %", "dense, ± 1.00 points, 900 test images")
