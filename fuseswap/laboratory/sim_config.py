"""The configuration of a simulation: sections of a file in the form of ``/etc/fuseswap.conf``.

``[device]`` has ``pool-limit`` (64M) and every parameter of `fuseswap set`.  ``size`` is that of
the swapfile, else the trace says it.  ``load-us`` and ``store-us``: time for a page (0).
``recompress-us``: of the thread for one (800).  ``zstd-gain``: percent that zstd gains on lz4, else
the trace says it.

``[tier NAME]``, in the order in which they are added, has ``size``.  ``read-us`` and ``write-us``
pass before the first byte (100).  ``bandwidth`` is in bytes a second, both ways together (500M).
``priority`` and ``limit`` are those of a tier, ``remote`` is yes or no.  ``faults`` are the kinds
that happen where a seed of faults is given (all four).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.laboratory.fault_schedule import KINDS
from fuseswap.laboratory.simulated_tier import TierModel
from fuseswap.sizes import parse_size, parse_whole
from fuseswap.tiers.tier_policy import TierPolicy
from fuseswap.units import MIB

_DEVICE = "device"
_TIER = "tier "
_MOST_US = 60_000_000
_POOL_LIMIT = 64 * MIB
_MOST_GAIN = 45
_TIER_KEYS = (
    "size", "read-us", "write-us", "bandwidth", "priority", "limit", "remote", "faults",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SimConfig:
    """One configuration; ``size_bytes`` 0: as large as the trace needs."""

    name: str = "default"
    size_bytes: int = 0
    pool_limit_bytes: int = _POOL_LIMIT
    load_s: float = 0.0
    store_s: float = 0.0
    recompress_s: float = 0.0008
    gain_percent: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    tiers: Mapping[str, TierModel] = field(default_factory=dict)
    policies: Mapping[str, TierPolicy] = field(default_factory=dict)


def config_from(name: str, sections: Mapping[str, Mapping[str, str]]) -> SimConfig:
    """Raises `InvalidArgument`, which names ``name``, section and key."""
    tiers: dict[str, TierModel] = {}
    policies: dict[str, TierPolicy] = {}
    device: Mapping[str, str] = {}
    for section, keys in sections.items():
        try:
            if section == _DEVICE:
                device = keys
            elif section.startswith(_TIER):
                tier = section.removeprefix(_TIER).strip()
                tiers[tier], policies[tier] = _tier(keys)
            else:
                raise InvalidArgument("it is neither device nor tier NAME")
        except InvalidArgument as exc:
            raise InvalidArgument(f"{name}: [{section}]: {exc}") from None
    try:
        return _device(name, device, tiers, policies)
    except InvalidArgument as exc:
        raise InvalidArgument(f"{name}: [{_DEVICE}]: {exc}") from None


def _device(
    name: str,
    keys: Mapping[str, str],
    tiers: Mapping[str, TierModel],
    policies: Mapping[str, TierPolicy],
) -> SimConfig:
    rest = dict(keys)
    size, limit = rest.pop("size", None), rest.pop("pool-limit", None)
    load, store = rest.pop("load-us", "0"), rest.pop("store-us", "0")
    recompress, gain = rest.pop("recompress-us", "800"), rest.pop("zstd-gain", None)
    parameters = {key.replace("-", "_"): text for key, text in rest.items()}
    for key in parameters:
        find_parameter(key)
    limit_bytes = _POOL_LIMIT if limit is None else parse_size(limit)
    parameters["pool_limit_bytes"] = str(limit_bytes)
    return SimConfig(
        name,
        0 if size is None else parse_size(size),
        limit_bytes,
        _seconds(load),
        _seconds(store),
        _seconds(recompress),
        None if gain is None else _gain(gain),
        parameters,
        tiers,
        policies,
    )


def _tier(keys: Mapping[str, str]) -> tuple[TierModel, TierPolicy]:
    if unknown := next((key for key in keys if key not in _TIER_KEYS), None):
        raise InvalidArgument(f"there is no '{unknown}'; there are: {', '.join(_TIER_KEYS)}")
    if "size" not in keys:
        raise InvalidArgument("a tier has a size")
    faults = tuple(keys.get("faults", " ".join(KINDS)).split())
    if wrong := next((kind for kind in faults if kind not in KINDS), None):
        raise InvalidArgument(f"there is no fault '{wrong}'; there are: {', '.join(KINDS)}")
    remote = keys.get("remote", "no")
    if remote not in ("yes", "no"):
        raise InvalidArgument(f"remote is yes or no, not '{remote}'")
    bandwidth = parse_size(keys.get("bandwidth", "500M"))
    size = parse_size(keys["size"])
    if bandwidth <= 0 or size < MIB:
        raise InvalidArgument("size and bandwidth are at least 1M and 1")
    model = TierModel(
        size,
        _seconds(keys.get("read-us", "100")),
        _seconds(keys.get("write-us", "100")),
        float(bandwidth),
        remote == "yes",
        faults,
    )
    words = [f"{key}={keys[key]}" for key in ("priority", "limit") if key in keys]
    return model, TierPolicy().changed(words)


def _gain(text: str) -> int:
    found = parse_whole(text)
    if found > _MOST_GAIN:
        raise InvalidArgument(f"zstd-gain is 0 to {_MOST_GAIN} percent, not {text}")
    return found


def _seconds(text: str) -> float:
    found = parse_whole(text)
    if found > _MOST_US:
        raise InvalidArgument(f"{text} us is more than a minute")
    return found / 1e6
