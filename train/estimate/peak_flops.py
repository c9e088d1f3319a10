"""Peak speed of known GPUs: what model FLOPs utilization is a share of."""

import re

import torch

PEAK_TFLOPS = {
    "GB300": 2500,
    "GB200": 2500,
    "B300": 2250,
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A10": 125,
    "A10G": 70,
    "RTX 4090": 165,
}
"""Dense bfloat16 in 10¹² per second by the makers' data sheets; the first name that is a word of a device's holds."""


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Of a known GPU in bfloat16, per second; None of anything else."""
    if device.type != "cuda" or dtype is not torch.bfloat16:
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(device_name: str) -> float | None:
    """Of a device by its name, per second."""
    words = ((peak, rf"\b{known}\b") for known, peak in PEAK_TFLOPS.items())
    return next((peak * 1e12 for peak, word in words if re.search(word, device_name)), None)
