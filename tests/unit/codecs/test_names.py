"""Our compressors' names, known without the codecs: just those that the registry takes."""

from __future__ import annotations

import pytest

from fuseswap.codecs.names import full_name
from fuseswap.codecs.registry import parse_compressor
from fuseswap.errors import InvalidArgument


@pytest.mark.parametrize(
    "text", ["lz4", " lz4\n", "zstd", "zstd:1", "zstd:19", "zstd:007", " zstd:3 "]
)
def test_ours_have_the_full_name_that_the_registry_gives(text: str) -> None:
    assert full_name(text) == parse_compressor(text).name


@pytest.mark.parametrize(
    "text", ["", "lz4:", "lz4:1", "LZ4", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "zstd:x", "lzo"]
)
def test_what_the_registry_refuses_is_left_to_it(text: str) -> None:
    assert full_name(text) is None
    with pytest.raises(InvalidArgument):
        parse_compressor(text)
