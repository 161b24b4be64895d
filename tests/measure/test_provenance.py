"""The facts above a table of figures."""

import json
from datetime import UTC, datetime

from secateur.measure import machine, provenance, provenance_line


def test_what_is_not_installed_is_left_out_and_more_is_kept():
    about = provenance("torch", "numpy", "no-such-package", threads=2)
    assert json.loads(json.dumps(about)) == about
    assert list(about["versions"]) == ["numpy", "torch"]
    assert about["threads"] == 2 and about["cpu"] == machine().cpu
    assert about["date"] == datetime.now(UTC).date().isoformat()


def test_the_line_names_all_of_it():
    about = {"date": "2026-11-20", "cpu": "Zen 5", "cpus": 2, "features": ["fma", "avx2"], "versions": {"onnx": "1.2"}}
    assert provenance_line(about, "one thread") == "2026-11-20, Zen 5, 2 CPUs (fma, avx2), one thread, onnx 1.2"
    assert provenance_line(about | {"cpus": 1, "versions": {}}) == "2026-11-20, Zen 5, 1 CPU (fma, avx2)"
