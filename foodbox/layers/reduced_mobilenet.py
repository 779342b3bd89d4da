"""MobileNetV3-Large with half the channels in C5 (Howard et al. 2019, section 6.3), made of timm's own blocks."""

from functools import partial
from typing import Any

from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import nn

REDUCED_MOBILENET_V3 = "mobilenet_v3_large_reduced"
"""Its name here; timm has none for it."""


def reduced_mobilenet_v3(**wishes: Any) -> nn.Module:
    """Timm's MobileNetV3-Large, table 1 of its paper, with 80 and 480 channels in C5 where there are 160 and 960."""
    blocks = [
        ["ds_r1_k3_s1_e1_c16_nre"],
        ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
        ["ir_r3_k5_s2_e3_c40_se0.25_nre"],
        ["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25"],
        ["ir_r3_k5_s2_e6_c80_se0.25"],
        ["cn_r1_k1_s1_c480"],
    ]
    gate = partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU, rd_round_fn=round_channels)
    network: nn.Module = MobileNetV3Features(decode_arch_def(blocks), act_layer=nn.Hardswish, se_layer=gate, **wishes)
    return network
