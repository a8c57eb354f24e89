"""What a measurement was made on: the provenance of a profile, and the sentence under every table."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lapsbench import __version__
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 1 << 30
CPU_SHARE = 0.5
"""Of the memory of a CPU machine, which others use too."""
THROTTLES = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""NVML's clock event reasons that make a GPU slower than it could be."""


def find(name: str | None) -> torch.device:
    """Return the device of that name; CUDA where there is some if none is named.

    Raises:
        LapsbenchError: there is no CUDA device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        built = "no CUDA device is found" if torch.version.cuda else "this torch is built without CUDA"
        raise LapsbenchError(built, where="--device cuda", hint="--device cpu, or a torch for your CUDA driver")
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def memory_bytes(device: torch.device) -> int:
    """Return the memory that may hold models and caches, the same at every call."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(CPU_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def name_of(device: torch.device) -> str:
    """Return what the device calls itself."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def is_virtual() -> bool:
    """Whether this machine is a virtual one, whose host may have other guests."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return any(line.startswith("flags") and "hypervisor" in line.split() for line in lines)
    return False


def facts(device: torch.device) -> dict[str, Any]:
    """Return what stays the same while measuring; all of it decides whether an old part may be used."""
    known: dict[str, Any] = {
        "device": name_of(device),
        "lapsbench": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": importlib.metadata.version("transformers"),
        "attention": "scaled_dot_product_attention of torch",
    }
    if device.type != "cuda":
        return known | {"threads": torch.get_num_threads(), "virtual": is_virtual()}
    with suppress(Exception):  # nvidia-ml-py is not there, or the driver does not answer
        known["driver"] = _nvml(device)["driver"]
    capability = ".".join(str(part) for part in torch.cuda.get_device_capability(device))
    return known | {"cuda": torch.version.cuda, "compute_capability": capability}


def state(device: torch.device) -> dict[str, Any]:
    """Return clocks, power and throttling of a GPU, or the load of a CPU machine, at this moment."""
    if device.type == "cuda":
        try:
            return {name: value for name, value in _nvml(device).items() if name != "driver"}
        except Exception as error:  # noqa: BLE001 - no NVML, no clocks: said, and not worth a profile
            return {"unknown": f"{type(error).__name__}: {error}"}
    with suppress(OSError):
        return {"load_average": round(os.getloadavg()[0], 2), "processors": os.cpu_count()}
    return {}


def label(device: torch.device, dtype: torch.dtype, remarks: list[str]) -> str:
    """Return the sentence that goes under every table made from the profile."""
    kind = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        text = f"measured on {name_of(device)}, {kind}"
    else:
        count = torch.get_num_threads()
        threads = f"{count} thread{'' if count == 1 else 's'}"
        which = f"{'virtual ' if is_virtual() else ''}CPU ({name_of(device)})"
        text = f"measured on a {which}, {threads}, {kind}: real costs of a CPU, not of a GPU"
    return "; ".join([text, *remarks])


def _nvml(device: torch.device) -> dict[str, Any]:
    pynvml = importlib.import_module("pynvml")  # optional, and only for GPUs

    pynvml.nvmlInit()
    try:
        handle = _handle(pynvml, device)
        reasons = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        driver = pynvml.nvmlSystemGetDriverVersion()
        return {
            "driver": driver.decode() if isinstance(driver, bytes) else str(driver),
            "sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "throttled_by": list(_throttles(reasons)),
        }
    finally:
        pynvml.nvmlShutdown()


def _handle(pynvml: Any, device: torch.device) -> Any:
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if uuid is not None:  # CUDA_VISIBLE_DEVICES renumbers, a UUID stays
        with suppress(pynvml.NVMLError):
            return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
    return pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)


def _throttles(reasons: int) -> Iterator[str]:
    return (name for bit, name in THROTTLES.items() if reasons & bit)
