"""The plugins of a device: what packages bring, made and put behind guards.

Made by the worker before its memory is locked, once.  A worker that pauses and attaches again
has the same ones, and one that was set aside stays so.  One that does not load is logged and left
out.

Codecs are registered when the device is built, each with a number for good.  Policies are asked
once a parameter selects them, backends once one is added.  Tiers run in processes of their own.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import NamedTuple

from fuseswap.codecs.call_notes import MOST_DEATHS
from fuseswap.codecs.guarded_codec import GuardedCodec
from fuseswap.codecs.registry import CodecRegistry, parse_compressor
from fuseswap.errors import HostError, InvalidArgument, reason_of
from fuseswap.frontswap.plugin_backend import PluginBackend, Shelf
from fuseswap.frontswap.shelf_notes import MAKING, ShelfNotes
from fuseswap.plugins import entry_points as plugins
from fuseswap.plugins.entry_points import Plugin
from fuseswap.plugins.health import PluginHealth
from fuseswap.reclaim.policy import DEFAULT_POLICY, GuardedPolicy
from fuseswap.store.region import Region

OWN_KINDS = ("cache", "file", "raw")


class ShelfPlugin(NamedTuple):
    """A kind of backends: what makes one of memory that outlives the worker."""

    kind: str
    shelf: Callable[[mmap.mmap], Shelf]
    health: PluginHealth

    def make(self, name: str, number: int, memory: Region, notes: ShelfNotes) -> PluginBackend:
        """The backend ``name`` over ``memory``; raises `HostError`."""
        memory.populate(0, memory.size_bytes)
        if (deaths := notes.deaths(number)) >= MOST_DEATHS:
            self.health.set_aside(f"{deaths} workers ended inside it")
        if notes.ends_workers(number, MAKING):
            raise HostError(f"{self.health.label}: workers ended while it was made")
        try:
            shelf = notes.watched(number, self.shelf, lambda memory: MAKING)(memory.map)
        except BaseException as exc:
            raise HostError(f"{self.health.label}: {reason_of(exc)}") from None
        size = memory.size_bytes
        return PluginBackend(shelf, number, self.health, name=name, size_bytes=size, notes=notes)


class Plugged(NamedTuple):
    """Codecs and policies, and the health of each."""

    codecs: tuple[GuardedCodec, ...] = ()
    policies: tuple[GuardedPolicy, ...] = ()
    health: tuple[PluginHealth, ...] = ()
    shelves: tuple[ShelfPlugin, ...] = ()


NOTHING_PLUGGED = Plugged()


def load_plugged() -> Plugged:
    """All that is found and loads."""
    codecs = plugins.load_all("codec", guarded_codec)
    policies = plugins.load_all("policy", guarded_policy)
    shelves = tuple(plugins.load_all("backend", shelf_plugin))
    health = (*(one for _, one in codecs), *(one for _, one in policies))
    health = (*health, *(one.health for one in shelves))
    return Plugged(tuple(c for c, _ in codecs), tuple(p for p, _ in policies), health, shelves)


def shelf_plugin(plugin: Plugin) -> ShelfPlugin:
    """The backends of ``plugin``; raises `HostError`."""
    if plugin.name in OWN_KINDS:
        raise HostError(f"{plugin} does not load: '{plugin.name}' is the name of ours")
    health = PluginHealth(plugin.kind, plugin.name, str(plugin), "the other backends")
    return ShelfPlugin(plugin.name, plugin.load(), health)


def guarded_codec(plugin: Plugin) -> tuple[GuardedCodec, PluginHealth]:
    """The codec of ``plugin``; raises `HostError`."""
    codec = plugin.make()
    name = getattr(codec, "name", None)
    if name != plugin.name:
        raise HostError(f"{plugin} does not load: it calls itself {name!r:.40}")
    health = PluginHealth(plugin.kind, plugin.name, str(plugin), "lz4")
    guarded = GuardedCodec(codec, health)
    try:
        CodecRegistry().register(guarded)
    except InvalidArgument as exc:
        raise HostError(f"{plugin} does not load: {exc}") from exc
    return guarded, health


def guarded_policy(plugin: Plugin) -> tuple[GuardedPolicy, PluginHealth]:
    """The policy of ``plugin``; raises `HostError`."""
    if plugin.name == DEFAULT_POLICY:
        raise HostError(f"{plugin} does not load: '{DEFAULT_POLICY}' is the name of ours")
    health = PluginHealth(plugin.kind, plugin.name, str(plugin), "the default")
    return GuardedPolicy(plugin.make(), health), health


def full_compressor_name(text: str) -> str:
    """The full name of a compressor as a person wrote it, also of a plugin's.

    Plugins are looked for only where it is none of ours, and one at most is loaded.  Raises
    `InvalidArgument`, and `HostError` where that does not load.
    """
    ours = CodecRegistry()
    name = text.strip().partition(":")[0]
    if name in ours.names:
        return parse_compressor(text).name
    found = {plugin.name: plugin for plugin in reversed(plugins.find("codec"))}
    if name not in found:
        raise ours.no_compressor(text, "", found)
    return parse_compressor(text, [guarded_codec(found[name])[0]]).name
