"""The stream of events at the administration's socket: nothing lost, nobody kept waiting."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
import pytest

from dsvolume_bridge.feed import KEPT
from lab.bridge import Bridge
from lab.site import Site
from libstorage.manager import Given
from libstorage.store.contract import Put

LISTENERS = 50
SECONDS = 30.0

Lines = AsyncIterator[dict[str, Any]]


@pytest.fixture
def site(bridged: tuple[Site, Bridge]) -> Site:
    return bridged[0]


@pytest.fixture
def bridge(bridged: tuple[Site, Bridge]) -> Bridge:
    return bridged[1]


@asynccontextmanager
async def listening(bridge: Bridge, place: str = "") -> AsyncIterator[Lines]:
    """What one listener is told."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SECONDS)
    connector = aiohttp.UnixConnector(str(bridge.admin))
    async with (
        aiohttp.ClientSession(
            connector=connector, timeout=timeout, read_bufsize=1 << 20
        ) as session,
        session.get("http://x/v1/events", params={"since": place}) as answer,
    ):
        assert answer.status == 200, await answer.text()

        async def lines() -> Lines:
            async for text in answer.content:
                yield json.loads(text)

        yield lines()


async def events(lines: Lines, count: int) -> list[dict[str, Any]]:
    """The next events; what comes twice counts once."""
    found: dict[str, dict[str, Any]] = {}
    async for line in lines:
        if "Event" in line:
            found.setdefault(line["Event"]["Id"], line["Event"])
        if len(found) == count:
            break
    return list(found.values())


def happen(site: Site, count: int, name: str) -> list[str]:
    """Let so many things happen; their events' Ids in the order of the commits."""
    manager = site.manager()
    write: Callable[..., Put] = manager._events.success
    ids = []
    for number in range(count):
        put = write(name, "label", {"door": "test"}, number=number)
        site.store.transact([], [put])
        ids.append(put.value["Id"])
    manager.close()
    return ids


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, SECONDS))


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [event["Id"] for event in found]


# -- what is told


def test_what_happens_is_told_as_it_happens(bridge: Bridge, site: Site) -> None:
    async def work() -> None:
        async with listening(bridge) as lines:
            assert "Event" not in await anext(lines)
            site.manager().create("db", Given(policy="local"))
            began = time.monotonic()
            [event] = await events(lines, 1)
            assert (event["Volume"], event["Text"]) == ("db", "Volume create success")
            assert time.monotonic() - began < 2

    run(work())


def test_who_comes_back_is_told_the_rest(bridge: Bridge, site: Site) -> None:
    async def work() -> None:
        async with listening(bridge) as lines:
            place = (await anext(lines))["Place"]
        wanted = happen(site, 5, "rest")
        async with listening(bridge, place) as lines:
            assert ids(await events(lines, 5)) == wanted

    run(work())


def test_who_comes_back_late_is_told_all(bridge: Bridge, site: Site) -> None:
    """More than the bridge keeps, and while more is happening."""

    async def work() -> None:
        async with listening(bridge) as lines:
            place = (await anext(lines))["Place"]
        wanted = happen(site, KEPT + 200, "late")
        # Another one makes the bridge forget.
        async with listening(bridge) as lines:
            await anext(lines)
            wanted += happen(site, 1, "late")
            await events(lines, 1)
        more = asyncio.create_task(asyncio.to_thread(happen, site, 100, "late"))
        async with listening(bridge, place) as lines:
            found = ids(await events(lines, KEPT + 301))
        assert found == wanted + await more

    run(work())


def test_a_killed_bridge_loses_no_event(bridge: Bridge, site: Site) -> None:
    async def work() -> None:
        found: list[str] = []
        place, wanted = "", list[str]()
        for number in range(3):
            if number == 1:
                bridge.kill()
                wanted += happen(site, 20, "killed")
                bridge.start()
            if number == 2:
                assert bridge.stop() == 0
                wanted += happen(site, 20, "killed")
                bridge.start()
            async with listening(bridge, place) as lines:
                line = await anext(lines)
                wanted += happen(site, 20, "killed")
                while len(found) < len(wanted):
                    line = await anext(lines)
                    if "Event" in line and line["Event"]["Id"] not in found:
                        found.append(line["Event"]["Id"])
                place = line["Place"]
        assert found == wanted

    run(work())


@pytest.mark.parametrize("place", ["x", "1", "-1@a", "1@" + "a" * 99])
def test_what_is_no_place_is_refused(bridge: Bridge, place: str) -> None:
    async def work() -> None:
        with pytest.raises(AssertionError, match="Not a place among the events"):
            async with listening(bridge, place):
                pass

    run(work())


def test_a_place_of_another_store_is_a_gap(bridge: Bridge, site: Site) -> None:
    async def work() -> None:
        for place in (f"1@{'0' * 8}", f"{10**9}@"):
            async with listening(bridge, place) as lines:
                [event] = await events(lines, 1)
                assert event["Verb"] == "gap" and "another one" in event["Text"]
                wanted = happen(site, 2, "gap")
                assert ids(await events(lines, 2)) == wanted

    run(work())


# -- who listens


def test_many_listeners_are_told_the_same(bridge: Bridge, site: Site) -> None:
    async def one(ready: asyncio.Semaphore) -> list[str]:
        async with listening(bridge) as lines:
            await anext(lines)
            ready.release()
            return ids(await events(lines, 200))

    async def work() -> None:
        ready = asyncio.Semaphore(0)
        told = [asyncio.create_task(one(ready)) for _ in range(LISTENERS)]
        for _ in told:
            await ready.acquire()
        wanted = await asyncio.to_thread(happen, site, 200, "many")
        for found in await asyncio.gather(*told):
            assert found == wanted

    process = psutil.Process(bridge.pid)
    run(work())  # what the first of all opens is kept
    before = process.num_fds(), process.num_threads()
    run(work())
    _until(lambda: process.num_fds() <= before[0] + 3 and process.num_threads() <= before[1] + 2)


def test_a_listener_that_does_not_read_keeps_nobody_waiting(bridge: Bridge, site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(str(bridge.admin))
        slow.sendall(b"GET /v1/events HTTP/1.0\r\n\r\n")
        assert slow.recv(4096)

        async def work() -> None:
            async with listening(bridge) as lines:
                await anext(lines)
                happening = asyncio.create_task(asyncio.to_thread(happen, site, 2 * KEPT, "slow"))
                found = ids(await events(lines, 2 * KEPT))
                assert found == await happening

        run(work())
        # It has missed none when it reads at last, though far more than the bridge keeps passed.
        slow.settimeout(SECONDS)
        text, seen = b"", set[str]()
        while len(seen) < 2 * KEPT:
            *lines, text = (text + slow.recv(1 << 16)).split(b"\n")
            said = [json.loads(line) for line in lines if line.startswith(b"{")]
            seen |= {line["Event"]["Id"] for line in said if "Event" in line}
        # And the bridge ends although somebody listens and does not read.
        happen(site, 500, "slow")
        began = time.monotonic()
        assert bridge.stop() == 0
        assert time.monotonic() - began < 4
        bridge.start()


def _until(reached: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
