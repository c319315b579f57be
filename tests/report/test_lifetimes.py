"""The life of tensors, read from a plan and drawn."""

import xml.etree.ElementTree as ET

import pytest

from pock_tvm.report.lifetime_picture import draw_lifetimes
from pock_tvm.report.lifetimes import at_peak, lifetimes, live_bytes, peak_bytes_by_kind


def tensor(name, offset, live, region="arena"):
    return {
        "name": name,
        "dtype": "float32",
        "shape": [16],
        "bytes": 64,
        "region": region,
        "offset": offset,
        "live": live,
    }


PLAN = {
    "calls": [
        {"kernel": "layer", "reads": ["x", "w"], "writes": ["a"]},
        {"kernel": "relu", "reads": ["a"], "writes": ["r"]},
        {"kernel": "entropy", "reads": ["r"], "writes": ["loss"]},
        {"kernel": "grad", "reads": ["r", "loss"], "writes": ["g"]},
        {"kernel": "update", "reads": ["g", "w"], "writes": ["w"]},
    ],
    "tensors": [
        tensor("w", 0, [0, 4], "frozen"),
        tensor("x", 0, [0, 0]),
        tensor("a", 64, [0, 1]),
        tensor("r", 64, [1, 3]),  # over a
        tensor("loss", 128, [2, 4]),
        tensor("g", 192, [3, 4]),
    ],
}


@pytest.fixture
def step():
    return lifetimes(PLAN, ("loss",))


def test_what_each_tensor_is_kept_for(step):
    assert {t.name: (t.kind, t.kernel) for t in step} == {
        "x": ("input", ""),
        "a": ("transient", "layer"),
        "r": ("residual", "relu"),
        "loss": ("output", "entropy"),
        "g": ("transient", "grad"),
    }


def test_a_tensor_written_over_another_counts_once(step):
    assert live_bytes(step, 5) == [128, 64, 128, 192, 128]
    assert at_peak(step, 5)[0] == 3
    assert peak_bytes_by_kind(step, 5) == {"residual": 64, "output": 64, "transient": 64}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_pictures(step, tmp_path, suffix):
    path = tmp_path / f"plan{suffix}"
    draw_lifetimes(step, 5, "a small step", path)
    content = path.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode()
    for name in "xarg":
        assert f"{name}: float32[16], 64 bytes" in text
    drawing = text[text.index("<svg") : text.index("</svg>") + 6]
    titles = ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}title")
    assert sum("bytes" in (title.text or "") for title in titles) == len(step)


def test_other_suffixes_are_refused(step, tmp_path):
    with pytest.raises(ValueError, match=r"write \.png, \.svg or \.html"):
        draw_lifetimes(step, 5, "a small step", tmp_path / "plan.jpg")
