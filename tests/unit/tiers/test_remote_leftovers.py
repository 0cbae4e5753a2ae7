"""Whose segments at a server may be deleted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fuseswap.tiers.remote_identity import Identity, boot_id, machine_hash, new_identity
from fuseswap.tiers.valkey_registry import SILENT_S, Holding, leftovers
from fuseswap.units import SEGMENT_BYTES

ELSEWHERE = Identity("elsewhere-1", "m" * 32, "boot1", "host2", "swap0", "valkey0")


def holding(identity: Identity, age_s: float = 10.0) -> Holding:
    return Holding(identity, 1, SEGMENT_BYTES, age_s)


def here(**changes: str) -> Identity:
    return Identity("here-1", machine_hash(), boot_id(), "host1", "swap0", "t")._replace(**changes)


@pytest.mark.parametrize(
    ("found", "dead"),
    [
        ([holding(here())], False),  # it says that it lives: another runtime directory has it
        ([holding(here(), SILENT_S + 1)], True),
        ([holding(here(id="up"), math.inf)], False),
        ([holding(here(boot="before"), SILENT_S + 1)], True),
        ([holding(ELSEWHERE, 59 * 60)], False),
        ([holding(ELSEWHERE, 61 * 60)], True),
        ([holding(ELSEWHERE, 300), holding(ELSEWHERE._replace(id="x", boot="boot2"))], True),
        ([holding(ELSEWHERE, 300), holding(ELSEWHERE._replace(id="x", boot="boot2"), 400)], False),
        ([holding(ELSEWHERE, 20), holding(ELSEWHERE._replace(id="x", boot="boot2"), 1)], False),
    ],
)
def test_what_is_a_leftover(found: list[Holding], dead: bool) -> None:
    assert (found[0] in leftovers(found, {"up"})) == dead


def test_identities_are_different_each_time_and_have_no_braces() -> None:
    one, other = new_identity("swap {0}:", "valkey0"), new_identity("swap {0}:", "valkey0")
    assert one.id != other.id
    assert not set("{}: ") & set(one.id)
    assert one.machine == other.machine != Path("/etc/machine-id").read_text().strip()
