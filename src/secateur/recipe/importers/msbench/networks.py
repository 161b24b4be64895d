"""MSBench's names of networks as ours: those of torchvision are the same, RegNets are named by timm here."""

import re


def network_name(name: str) -> str:
    """`regnetx_600m` is `regnetx_006`; `mobilenetv2` is `mobilenet_v2`."""
    if found := re.fullmatch(r"regnet([xy])_(\d+)m", name):
        return f"regnet{found[1]}_{int(found[2]) // 100:03d}"
    if found := re.fullmatch(r"mobilenet_?v([23])(_large|_small)?", name):
        return f"mobilenet_v{found[1]}{found[2] or ''}"
    return {"mobilenet_v1": "mobilenet_v1_100_imagenet", "mobilenetv1": "mobilenet_v1_100_imagenet"}.get(name, name)
