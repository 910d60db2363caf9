"""What the studio's page asks for: photos in, quick looks at once, and jobs whose events are heard as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import torch
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from netloupe.core.errors import NetloupeError, unknown
from netloupe.core.head import Classes, NoHead
from netloupe.core.network import Network
from netloupe.core.numbers import spelled
from netloupe.data.photos import credits, photos
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Desk, uri
from netloupe.studio.photos import BYTES, Photo, Photos, Refused, Seen
from netloupe.studio.sections import SECTIONS, about, masked, methods, shown_layers

MARK = "x-netloupe"
"""A header that only the studio's own pages send: browsers ask before they let others' pages send it."""

_JSON = 1 << 16  # bytes of a request in JSON
_PATIENCE = 60.0  # s for the body of a request
_SAMPLES = ("cat", "coffee", "motorcycle", "rocket", "china", "flower", "astronaut", "coins")
_TOP = 5


class Studio:
    """A network with its photos and its desk. load: gives the network, once it is needed. photo: the first to show."""

    def __init__(self, load: Callable[[], Network], photo: Photo | None = None) -> None:
        self._load = load
        self._net: Network | None = None
        self._loading = asyncio.Lock()
        self.photos, self.desk, self.first = Photos(), Desk(), photo

    async def network(self) -> Network:
        """The network, loaded when it is first asked for."""
        async with self._loading:
            if self._net is None:
                self._net = await run_in_threadpool(self._load)
            return self._net

    def about(self, net: Network) -> dict[str, Any]:
        """What the page needs to know before anything is done."""
        classes = net.head.labels if isinstance(net.head, Classes) else ()
        return {
            "name": net.name,
            "input": {"size": list(net.inputs.size), "channels": net.inputs.channels},
            "labels": list(classes),
            "layers": {name: list(net.layers[name].shape) for name in shown_layers(net)},
            "methods": methods(),
            "samples": [{"id": f"sample-{name}", "title": title} for name, title in _samples()],
            "photo": None if self.first is None else described(self.first),
            "sections": {name: section.task.schema() for name, section in SECTIONS.items()},
            "limits": {"bytes": BYTES},
        }

    def photo(self, wanted: object) -> Photo:
        """A photo that was sent, the first, or a sample. Raises Refused."""
        if self.first is not None and wanted == self.first.id:
            return self.first
        if isinstance(wanted, str) and wanted.startswith("sample-"):
            return _sample(wanted.removeprefix("sample-"))
        return self.photos.get(wanted)

    def seen(self, net: Network, asked: Mapping[str, Any]) -> Seen:
        """What the network sees of the photo and crop that a request names."""
        photo = self.photo(asked.get("photo"))
        crop = asked.get("crop")
        if not isinstance(crop, list) or len(crop) != 4:
            raise Refused(f"crop {crop!r} (accepted: [top, left, bottom, right] px)")
        return photo.seen(crop, net.inputs)


def _samples() -> list[tuple[str, str]]:
    titles = {name: title for name, title, _ in credits()}
    chosen = [name for name in _SAMPLES if name in titles]
    return [(name, titles[name]) for name in (chosen + [name for name in titles if name not in chosen])[:8]]


@cache
def _sample(name: str) -> Photo:
    source = photos()
    if f"{name}/full" not in source.names or "/" in name:
        raise Refused("that photo is not there", 404)
    image = source.open(list(source.names).index(f"{name}/full")).convert("RGB")
    return Photo(f"sample-{name}", image)


def described(photo: Photo) -> dict[str, Any]:
    """What the page is told of a photo."""
    return {"id": photo.id, "size": [photo.image.height, photo.image.width]}


def live(studio: Studio) -> APIRouter:
    """The addresses under `live/`."""
    router = APIRouter(prefix="/live")

    @router.get("/studio.json")
    async def describe() -> Response:
        return await _answered(lambda net: studio.about(net))

    @router.put("/photo")
    async def put(request: Request) -> Response:
        async def work() -> Any:
            data = await _body(request, BYTES)
            return described(await run_in_threadpool(studio.photos.add, data))

        return await _guarded(request, work)

    @router.get("/photo/{photo}.webp")
    async def show(photo: str) -> Response:
        try:
            found = await run_in_threadpool(lambda: studio.photo(photo).shown)
        except Refused as error:
            return _refusal(error)
        return Response(found, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    @router.post("/look")
    async def look(request: Request) -> Response:
        async def work() -> Any:
            asked = await _asked(request)
            return await run_in_threadpool(_look, studio, await studio.network(), asked)

        return await _guarded(request, work)

    @router.post("/jobs")
    async def post(request: Request) -> Response:
        async def work() -> Any:
            asked = await _asked(request)
            return await run_in_threadpool(_posted, studio, await studio.network(), asked)

        return await _guarded(request, work)

    @router.delete("/jobs/{number}")
    async def stop(request: Request, number: int) -> Response:
        async def work() -> Any:
            job = studio.desk.job(number)
            if job is not None:
                job.cancel()
            return {}

        return await _guarded(request, work)

    @router.get("/jobs/{number}/events")
    def events(request: Request, number: int) -> Response:
        job = studio.desk.job(number)
        if job is None:
            return _refusal(Refused("that job is not known any more", 404))
        last = request.headers.get("last-event-id", "")
        after = int(last) + 1 if last.isdecimal() and len(last) < 9 else 0

        def told() -> Iterator[str]:
            for one in job.listen(after):
                if one is None:
                    yield ": still here\n\n"
                else:
                    number, event = one
                    yield f"id: {number}\nevent: {event.kind}\ndata: {json.dumps(spelled(event.data))}\n\n"

        return StreamingResponse(told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _answered(find: Callable[[Network], Any]) -> Response:
        try:
            net = await studio.network()
            return JSONResponse(spelled(await run_in_threadpool(find, net)), headers={"Cache-Control": "no-store"})
        except NetloupeError as error:
            return _refusal(error)

    return router


def _look(studio: Studio, net: Network, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The most probable classes, and where it is wanted what the network sees."""
    seen = studio.seen(net, asked)
    if asked.get("hidden") is not None:
        seen = masked(net, seen, asked["hidden"] if isinstance(asked["hidden"], list) else [])
    wanted = about(net, asked)
    with torch.no_grad():
        said = [] if isinstance(net.head, NoHead) else net.said(net(seen.pixels), _TOP)[0]
        value = None if wanted is None else float(net.read(seen.pixels, wanted)[0])
    shown = uri(from_pixels(seen.pixels[0].numpy())) if asked.get("seen") is True else None
    return {"top": [one.document() | {"said": str(one)} for one in said], "seen": shown, "about": value}


def _posted(studio: Studio, net: Network, asked: Mapping[str, Any]) -> dict[str, Any]:
    name = asked.get("section")
    if not isinstance(name, str) or name not in SECTIONS:
        raise unknown("section", str(name)[:40], SECTIONS)
    settings = asked.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise Refused("settings are no object (accepted: names with values)")
    about(net, settings)
    section, seen = SECTIONS[name], studio.seen(net, asked)
    until = None if settings.get("whole") is True else section.until
    job = studio.desk.post(name, partial(section.run, net, seen, settings), until)
    return {"job": job.number}


async def _guarded(request: Request, work: Callable[[], Any]) -> Response:
    """What `work` gives, of a request that only the studio's own page can have sent."""
    if request.headers.get(MARK) is None:
        return _refusal(Refused("only the studio's own page may ask for that", 403))
    try:
        return JSONResponse(spelled(await work()), headers={"Cache-Control": "no-store"})
    except NetloupeError as error:
        return _refusal(error)


def _refusal(error: NetloupeError) -> Response:
    status = error.status if isinstance(error, Refused) else 400
    return JSONResponse({"message": str(error)}, status_code=status, headers={"Cache-Control": "no-store"})


async def _body(request: Request, most: int) -> bytes:
    """The bytes of a request. Raises Refused for more than `most`, or where they come too slowly."""
    found = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for part in request.stream():
                found += part
                if len(found) > most:
                    raise Refused(f"more than {most / (1 << 20):g} MB (accepted: up to that)", 413)
    except TimeoutError:
        raise Refused("it took too long to arrive", 408) from None
    return bytes(found)


async def _asked(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await _body(request, _JSON))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused("no JSON object (accepted: one that names photo and crop)")
    return found
