"""What the page asks of a studio: photos in, quick looks at once, and jobs whose events are heard as they come.

Needs neither the network nor torch until it is asked, so that an atlas is served at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from netloupe.core.errors import NetloupeError
from netloupe.core.numbers import spelled
from netloupe.studio.refusal import Refused

if TYPE_CHECKING:
    from netloupe.studio.desk import Job
    from netloupe.studio.studio import Studio

BYTES = 20 << 20  # of a photo
MARK = "x-netloupe"
"""A header that only the studio's own pages send: browsers ask before they let others' pages send it."""

_JSON = 1 << 16  # bytes of a request in JSON
_PATIENCE = 60.0  # s for the body of a request
_FRESH = {"Cache-Control": "no-store"}


class Live:
    """The addresses under `live/`, in `router`. load: gives the studio, once it is asked for."""

    def __init__(self, load: Callable[[], Studio]) -> None:
        self._load = load
        self._studio: Studio | None = None
        self._loading = asyncio.Lock()
        self.router = APIRouter(prefix="/live")
        for method, path, answer in (
            ("GET", "/studio.json", self._describe),
            ("PUT", "/photo", self._put),
            ("GET", "/photo/{photo}.webp", self._show),
            ("PUT", "/frame", self._frame),
            ("POST", "/look", self._look),
            ("GET", "/kept.json", self._all_kept),
            ("GET", "/kept/{name}.json", self._one_kept),
            ("GET", "/kept/{name}/{file}", self._kept_file),
            ("GET", "/jobs", self._jobs),
            ("POST", "/jobs", self._post),
            ("DELETE", "/jobs/{number}", self._stop),
            ("GET", "/jobs/{number}/events", self._events),
        ):
            self.router.add_api_route(path, answer, methods=[method])

    async def studio(self) -> Studio:
        """The studio; the first to ask waits until it is loaded."""
        async with self._loading:
            if self._studio is None:
                self._studio = await run_in_threadpool(self._load)
            return self._studio

    def close(self) -> None:
        """End what is going on."""
        if self._studio is not None:
            self._studio.desk.close()

    async def _describe(self) -> Response:
        async def work() -> Any:
            studio = await self.studio()
            return await run_in_threadpool(studio.document) | {"limits": {"bytes": BYTES}}

        return await _answered(work)

    async def _put(self, request: Request) -> Response:
        async def work() -> Any:
            data = await _body(request, BYTES)
            return await run_in_threadpool((await self.studio()).put, data)

        return await _guarded(request, work)

    async def _show(self, photo: str) -> Response:
        try:
            studio = await self.studio()
            found = await run_in_threadpool(lambda: studio.photo(photo).shown)
        except NetloupeError as error:
            return _refusal(error)
        return Response(found, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    async def _frame(self, request: Request) -> Response:
        async def work() -> Any:
            data = await _body(request, BYTES)
            return await run_in_threadpool((await self.studio()).frame, data)

        return await _guarded(request, work)

    async def _look(self, request: Request) -> Response:
        async def work() -> Any:
            asked = await _asked(request)
            return await run_in_threadpool((await self.studio()).look, asked)

        return await _guarded(request, work)

    async def _post(self, request: Request) -> Response:
        async def work() -> Any:
            asked = await _asked(request)
            return await run_in_threadpool((await self.studio()).post, asked)

        return await _guarded(request, work)

    async def _all_kept(self) -> Response:
        async def work() -> Any:
            kept = (await self.studio()).keeper
            return {"folder": str(kept.folder), "kept": await run_in_threadpool(kept.all)}

        return await _answered(work)

    async def _one_kept(self, name: str) -> Response:
        async def work() -> Any:
            return await run_in_threadpool((await self.studio()).keeper.one, name)

        return await _answered(work)

    async def _kept_file(self, name: str, file: str) -> Response:
        try:
            kept = (await self.studio()).keeper
            if file == "page.html":
                return _download((await run_in_threadpool(kept.page, name)).encode(), f"{name}.html")
            found = await run_in_threadpool(kept.file, name, file)
        except NetloupeError as error:
            return _refusal(error)
        kind = file.rpartition(".")[2]
        return Response(found, media_type=f"image/{kind}") if kind in ("png", "gif") else _download(found, file)

    async def _jobs(self, request: Request) -> Response:
        async def work() -> Any:
            return (await self.studio()).jobs(request.query_params.get("page", "")[:40])

        return await _guarded(request, work)

    async def _stop(self, request: Request, number: int) -> Response:
        async def work() -> Any:
            job = (await self.studio()).desk.job(number)
            if job is not None:
                job.cancel()
            return {}

        return await _guarded(request, work)

    async def _events(self, request: Request, number: int) -> Response:
        job = (await self.studio()).desk.job(number)
        if job is None:
            return _refusal(Refused("that job is not known any more", 404))
        last, after = request.headers.get("last-event-id", ""), request.query_params.get("after", "")
        first = _number(last) + 1 if last else _number(after)
        return StreamingResponse(_told(job, first), media_type="text/event-stream", headers=_FRESH)


def _download(content: bytes, name: str) -> Response:
    """A file that the browser saves: what is in it is never a page of this server."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 9 else 0


def _told(job: Job, after: int) -> Iterator[str]:
    """The events of a job as a browser's EventSource reads them."""
    for one in job.listen(after):
        if one is None:
            yield ": still here\n\n"
        else:
            number, event = one
            yield f"id: {number}\nevent: {event.kind}\ndata: {json.dumps(spelled(event.data))}\n\n"


async def _guarded(request: Request, work: Callable[[], Awaitable[Any]]) -> Response:
    """What `work` gives, of a request that only the studio's own page can have sent."""
    if request.headers.get(MARK) is None:
        return _refusal(Refused("only the studio's own page may ask for that", 403))
    return await _answered(work)


async def _answered(work: Callable[[], Awaitable[Any]]) -> Response:
    try:
        return JSONResponse(spelled(await work()), headers=_FRESH)
    except NetloupeError as error:
        return _refusal(error)


def _refusal(error: NetloupeError) -> Response:
    status = error.status if isinstance(error, Refused) else 400
    return JSONResponse({"message": str(error)}, status_code=status, headers=_FRESH)


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
