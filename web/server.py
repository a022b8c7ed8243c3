"""The server: HTTP in front of `service.Service`, one session per browser.

    GET  /                      the page; /static/… its files
    GET  /api/state             all that a page shows when it is opened
    PUT  /api/accompaniment     a recording as the body, its name as ?name=; PUT /api/melody
    POST /api/example           {"accompaniment": NAME} or {"melody": NAME} of examples/
    POST /api/words             {"lyrics"} → lines, syllables, guessed words
    POST /api/pronunciation     {"word", "phonemes"} into the lexicon of the session
    POST /api/plan              words and melody → notes; POST /api/notes takes changed ones
    POST /api/sing              the plan, or {"take", "regions", "words"} → a job
    GET  /api/job, POST /api/job/cancel
    GET  /api/takes/N/FILE, GET /api/accompaniment, GET /api/plan.mid

Every answer but files is JSON; errors are {"error": …} in the words that the shell uses.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mimetypes
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from utils.flags import sentence
from web.choices import MELODIES, PLAN, QUALITIES
from web.guard import Guard
from web.render_queue import RenderJob, RenderQueue
from web.service import Service
from web.sessions import Session, SessionStore
from web.settings import Settings
from web.uploads import receive, shown_name

STATIC = Path(__file__).with_name("static")
COOKIE = "toplainer_session"
SWEEP_SECONDS = 600.0
EXAMPLE_SONG, EXAMPLE_LYRICS = "evening-sun.ogg", "lyrics.lrc"

logger = logging.getLogger(__name__)


class Server:
    """The routes of the page, and what they share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = Service(settings)
        self.sessions = SessionStore(settings)
        self.queue = RenderQueue(settings.most_waiting)
        self.jobs: dict[str, RenderJob] = {}  # the last one of each session

    def app(self) -> Starlette:
        """Return the ASGI application."""
        calls: dict[str, Callable[[Session, dict[str, Any]], Any]] = {
            "words": self.service.read_words,
            "pronunciation": self.service.pronounce,
            "plan": self.service.plan,
            "notes": self.service.change,
            "example": self.example,
            "sing": self.sing,
            "job/cancel": self.cancel,
        }
        routes = [
            Route("/", self.index),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/state", self.state),
            Route("/api/job", self.job),
            Route("/api/plan.mid", self.plan_file),
            Route("/api/accompaniment", self.accompaniment_file),
            Route("/api/takes/{number:int}/{name}", self.take_file),
            Route("/api/{kind}", self.upload, methods=["PUT"]),
            *(
                Route(f"/api/{name}", self.answering(call), methods=["POST"])
                for name, call in calls.items()
            ),
        ]
        guard = Middleware(Guard, settings=self.settings)
        return Starlette(routes=routes, middleware=[guard], lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Sweep old sessions while the server runs; end the rendering with it."""
        sweeping = asyncio.create_task(self.sweep())
        warming = asyncio.create_task(run_in_threadpool(self.service.warm_up))
        try:
            yield
        finally:
            sweeping.cancel()
            warming.cancel()
            await run_in_threadpool(self.queue.close)

    async def sweep(self) -> None:
        """Remove old sessions, again and again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for folder in await run_in_threadpool(self.sessions.sweep):
                logger.info("%s: not used for long, removed", folder)

    # ------------------------------------------------------------------------ answers

    def session_of(self, request: Request) -> tuple[Session, bool]:
        """Return the session of a request, and whether it is new."""
        session = self.sessions.find(request.cookies.get(COOKIE))
        return (self.sessions.create(), True) if session is None else (session, False)

    def known_session(self, request: Request) -> Session:
        """Return the session of a request; ValueError without one."""
        session = self.sessions.find(request.cookies.get(COOKIE))
        if session is None:
            raise ValueError("this session is over: load the page again")
        return session

    def answer(self, session: Session, is_new: bool, content: Any, status: int = 200) -> Response:
        """Return JSON, with the cookie of a new session."""
        response = JSONResponse(content, status, {"cache-control": "no-store"})
        if is_new:
            response.set_cookie(COOKIE, session.id, httponly=True, samesite="strict")
        return response

    def answering(self, call: Callable[[Session, dict[str, Any]], Any]) -> Any:
        """Return the endpoint of a call that takes a session and JSON, and returns JSON."""

        async def endpoint(request: Request) -> Response:
            session, is_new = self.session_of(request)
            try:
                fields = await self.fields(request)
                content = await run_in_threadpool(self.locked, session, call, fields)
            except (ValueError, OSError, MemoryError) as error:
                return self.fault(session, is_new, error)
            return self.answer(session, is_new, content)

        return endpoint

    def locked(self, session: Session, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call while no other request of the session is worked on."""
        with session.lock:
            return call(session, *arguments)

    def fault(self, session: Session, is_new: bool, error: BaseException) -> Response:
        """Answer with an error in the words of the shell."""
        return self.answer(session, is_new, {"error": session.plain(sentence(error))}, 400)

    async def fields(self, request: Request) -> dict[str, Any]:
        """Read a JSON object of bounded size."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.settings.json_bytes:
                raise ValueError(f"more than {self.settings.json_bytes / 2**20:.0f} MB of text")
        try:
            fields = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise ValueError("expected JSON") from None
        if not isinstance(fields, dict):
            raise ValueError("expected a JSON object")
        return fields

    # ------------------------------------------------------------------------ pages and files

    async def index(self, request: Request) -> Response:
        """Send the page."""
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def state(self, request: Request) -> Response:
        """Send all that the page shows."""
        session, is_new = self.session_of(request)
        try:
            content = await run_in_threadpool(self.locked, session, self.shown_state)
        except (ValueError, OSError, MemoryError) as error:
            return self.fault(session, is_new, error)
        return self.answer(session, is_new, content)

    def shown_state(self, session: Session) -> dict[str, Any]:
        """Describe a session and what can be chosen."""
        plan, uploads = session.plan, session.uploads
        song, melody = uploads.get("accompaniment"), uploads.get("melody")
        songs = sorted(path.stem for path in (self.settings.examples / "songs").glob("*.song"))
        example = self.settings.examples / EXAMPLE_LYRICS
        has_example = example.is_file() and (self.settings.examples / EXAMPLE_SONG).is_file()
        return {
            "accompaniment": song and song.about,
            "melody": melody and melody.about,
            "lexicon": session.lexicon,
            "plan": plan and plan.report(),
            "takes": self.service.shown_takes(session),
            "job": self.shown_job(session),
            "runs": self.service.shown_runs(),
            "melodies": MELODIES,
            "qualities": list(QUALITIES),
            "examples": {
                "accompaniment": EXAMPLE_SONG if has_example else None,
                "lyrics": example.read_text(encoding="utf-8") if has_example else "",
                "melodies": songs,
            },
            "limits": {
                "upload_bytes": self.settings.upload_bytes,
                "seconds": self.settings.song_seconds,
            },
        }

    async def take_file(self, request: Request) -> Response:
        """Send a file of a take."""
        try:
            session = self.known_session(request)
            number, name = request.path_params["number"], request.path_params["name"]
            path = self.service.file_of_take(session, number, name)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 404)
        return sent_file(path)

    async def accompaniment_file(self, request: Request) -> Response:
        """Send the accompaniment back, for the player."""
        try:
            return sent_file(self.known_session(request).uploads["accompaniment"].path)
        except (KeyError, ValueError):
            return JSONResponse({"error": "no accompaniment yet"}, 404)

    async def plan_file(self, request: Request) -> Response:
        """Send the plan as MIDI."""
        try:
            path = self.known_session(request).path(PLAN)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 404)
        if not path.is_file():
            return JSONResponse({"error": "there is no melody yet"}, 404)
        return sent_file(path)

    # ------------------------------------------------------------------------ files in

    async def upload(self, request: Request) -> Response:
        """Take a recording or a melody file."""
        kind = request.path_params["kind"]
        takers = {
            "accompaniment": (self.service.take_accompaniment, self.settings.upload_bytes),
            "melody": (self.service.take_melody, self.settings.score_bytes),
        }
        if kind not in takers:
            return JSONResponse({"error": "expected accompaniment or melody"}, 404)
        take, most = takers[kind]
        session, is_new = self.session_of(request)
        name = shown_name(request.query_params.get("name", ""), kind)
        received = session.path(f"upload-{session.next_number()}.part")
        try:
            await receive(request.stream(), received, most, name)
            content = await run_in_threadpool(self.locked, session, take, received, name)
        except (ValueError, OSError, MemoryError) as error:
            return self.fault(session, is_new, error)
        finally:
            received.unlink(missing_ok=True)
        return self.answer(session, is_new, content)

    def example(self, session: Session, fields: dict[str, Any]) -> dict[str, Any]:
        """Take an example as if it had been sent."""
        songs = {path.stem: path for path in (self.settings.examples / "songs").glob("*.song")}
        chosen = {"accompaniment": {EXAMPLE_SONG: self.settings.examples / EXAMPLE_SONG}}
        chosen["melody"] = songs
        for kind, paths in chosen.items():
            if (path := paths.get(str(fields.get(kind)))) is not None:
                received = session.path(f"upload-{session.next_number()}.part")
                received.write_bytes(path.read_bytes())
                is_song = kind == "accompaniment"
                take = self.service.take_accompaniment if is_song else self.service.take_melody
                return take(session, received, path.name)
        raise ValueError("there is no such example")

    # ------------------------------------------------------------------------ renderings

    def sing(self, session: Session, fields: dict[str, Any]) -> dict[str, Any]:
        """Queue a rendering."""
        title, work, discard = self.service.prepare(session, fields)
        self.jobs = {owner: job for owner, job in self.jobs.items() if self.sessions.has(owner)}
        self.jobs[session.id] = self.queue.submit(session.id, title, work, discard)
        return {"job": self.shown_job(session)}

    def cancel(self, session: Session, fields: dict[str, Any]) -> dict[str, Any]:
        """Cancel the rendering of a session."""
        if session.id in self.jobs:
            self.queue.cancel(self.jobs[session.id])
        return {"job": self.shown_job(session)}

    async def job(self, request: Request) -> Response:
        """Tell how far the rendering of a session is, and its takes."""
        try:
            session = self.known_session(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 404)
        job, takes = self.shown_job(session), self.service.shown_takes(session)
        return self.answer(session, False, {"job": job, "takes": takes})

    def shown_job(self, session: Session) -> dict[str, Any] | None:
        """Describe the last rendering of a session."""
        job = self.jobs.get(session.id)
        if job is None:
            return None
        report = job.report(self.queue.ahead(job))
        return {**report, "error": session.plain(report["error"])}


def sent_file(path: Path) -> Response:
    """Send a file that this program named; browsers show nothing of it as a page."""
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=media_type, headers={"cache-control": "no-store"})
