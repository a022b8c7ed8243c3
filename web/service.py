"""What the page does: read files, plan, change a plan, sing it, and sing parts of a take again.

Each step calls what synthesis.py calls (`singing/`); here is only what a session adds: names,
bounds, and files that stay with the take that was made from them.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from composer.harmony import Harmony
from music.midi import write_midi
from music.score import LONGEST_MELODY, Melody
from singing.melody import BackingAudio, make_melody, read_melody, resolve_melody
from singing.request import NONE, MelodyRequest, SongFiles, SongRequest
from singing.sing import Networks, load_networks, sing_song
from singing.song import SongAudio, open_song
from singing.voice import Voice
from text.frontend import Pronouncer
from text.lexicon import parse_phonemes
from text.lyrics import parse_lyrics, read_lyrics
from text.remarks import grouped
from utils.checkpoint import resolve
from utils.files import write_text
from web.choices import (
    LEXICON,
    LYRICS,
    MOST_LYRICS,
    PLAN,
    Again,
    Choice,
    Files,
    Manner,
    lexicon_text,
    lexicon_word,
    regions_of,
    shell_arguments,
    shell_command,
    song_request,
)
from web.fields import Fields, optional_text, text
from web.plans import KnownBacking, Plan, chord_strip, edited_melody, syllable_counts
from web.reports import take_report
from web.sessions import Session, Take, Upload
from web.settings import CHOSEN_KINDS, Settings, describe_runs, find_runs
from web.uploads import audio_suffix, score_suffix

INPUTS = "inputs"  # folder of a take with the texts that it was made from
MOST_PRONUNCIATIONS = 500


class Service:
    """The steps of the page for any session."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: tuple[tuple[Any, ...], Networks] | None = None  # those used last
        self._loading = threading.Lock()

    # ------------------------------------------------------------------------ files in

    def take_accompaniment(self, session: Session, received: Path, name: str) -> dict[str, Any]:
        """Keep an accompaniment that was received; return its tempo, key and chords."""
        suffix = audio_suffix(received, name, self.settings.song_seconds)
        path = session.path(f"accompaniment-{session.next_number()}{suffix}")
        received.rename(path)
        try:
            song = self._open(path, self._networks(self._default_request(session)))
            backing = self._backing_of(session, path, song.seconds)
            harmony = backing.harmony()
        except ValueError as error:
            path.unlink(missing_ok=True)
            raise ValueError(str(error).replace(str(path), name)) from error
        about = {
            "name": name,
            "seconds": song.seconds,
            "sample_rate": song.info.sample_rate,
            "channels": song.info.channels,
            "remarks": [*song.remarks, *harmony.notes],
        }
        session.put("accompaniment", Upload(path, name, about))
        session.plan = None
        return {**about, "harmony": chord_strip(harmony)}

    def take_melody(self, session: Session, received: Path, name: str) -> dict[str, Any]:
        """Keep a melody file that was received; return what it holds."""
        path = session.path(f"melody-{session.next_number()}{score_suffix(received, name)}")
        received.rename(path)
        try:
            melody = read_melody(path)
        except ValueError as error:
            path.unlink(missing_ok=True)
            raise ValueError(str(error).replace(str(path), name)) from error
        about = {
            "name": name,
            "notes": len(melody.notes),
            "syllables": sum(lyric is not None for lyric in melody.lyrics),
            "seconds": melody.notes[-1].offset,
            "remarks": list(melody.remarks),
        }
        session.put("melody", Upload(path, name, about))
        return about

    def shown_accompaniment(self, session: Session) -> dict[str, Any] | None:
        """Describe the accompaniment of a session; None without one."""
        upload, harmony = session.uploads.get("accompaniment"), self._harmony(session)
        if upload is None or harmony is None:
            return None
        return {**upload.about, "harmony": chord_strip(harmony)}

    def read_words(self, session: Session, fields: Fields) -> dict[str, Any]:
        """Return lines, syllables and guessed words of lyrics, and what of them is not sung."""
        path = session.path("lyrics-draft.txt")
        write_text(path, text(fields, "lyrics", MOST_LYRICS))
        try:
            lyrics = read_lyrics(path)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{path}: ", "")) from error
        finally:
            path.unlink(missing_ok=True)
        lines = syllable_counts(lyrics, Pronouncer(self._files(session).text(LEXICON)))
        total = sum(line["syllables"] for line in lines)
        return {"lines": lines, "syllables": total, "remarks": grouped(lyrics.remarks)}

    def pronounce(self, session: Session, fields: Fields) -> dict[str, str]:
        """Write the pronunciation of a word into the session's lexicon; without phonemes, out."""
        word = lexicon_word(text(fields, "word", 100))
        written = optional_text(fields, "phonemes", 200)
        entries = dict(session.lexicon)
        entries.pop(word, None)
        if written is not None:
            entries[word] = " ".join(parse_phonemes(written, word))
        if len(entries) > MOST_PRONUNCIATIONS:
            raise ValueError(f"more than {MOST_PRONUNCIATIONS} pronunciations; use a lexicon file")
        path = session.path(f".{LEXICON}.new")
        write_text(path, lexicon_text(entries))
        try:
            Pronouncer(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "pronunciation")) from error
        finally:
            path.unlink(missing_ok=True)
        session.lexicon = entries
        if entries:
            write_text(session.path(LEXICON), lexicon_text(entries))
        else:
            session.path(LEXICON).unlink(missing_ok=True)
        return entries

    # ------------------------------------------------------------------------ plan

    def plan(self, session: Session, fields: Fields) -> dict[str, Any]:
        """Compose or read the melody that is asked for, without a sound."""
        choice = Choice.of(fields)
        write_text(session.path(LYRICS), choice.lyrics)
        request = self._request(session, fields, choice)
        voice = self._voice(request)
        remarks = tuple(getattr(request.lyrics, "remarks", ()))
        if resolve_melody(request, voice).source == NONE:
            request.melody.check_spoken()
            if not request.lyrics:
                raise ValueError("there are no words to speak: write them under 1")
            session.path(PLAN).unlink(missing_ok=True)
            session.plan = Plan(choice, None, (), remarks)
        else:
            backing = self._backing(session)
            made = make_melody(request, voice, Pronouncer(request.lexicon), backing)
            melody = Melody.of(made.underlay.score)
            self._keep(session, fields, choice, melody, (*remarks, *made.remarks), False)
        return self.shown_plan(session)

    def change(self, session: Session, fields: Fields) -> dict[str, Any]:
        """Take in the notes and words as they were changed on the page."""
        plan, entries = session.plan, fields.get("notes")
        if plan is None or plan.score is None:
            raise ValueError("there is no melody to change yet: compose one")
        if not isinstance(entries, list):
            raise ValueError("notes: expected a list")
        upload = session.uploads.get("accompaniment")
        seconds = upload.about["seconds"] if upload else LONGEST_MELODY
        melody, repairs = edited_melody(
            entries, plan.score.tempo, plan.score.meters, seconds, self.settings.most_notes
        )
        self._keep(session, fields, plan.choice, melody, tuple(repairs), True)
        return self.shown_plan(session)

    def _keep(
        self,
        session: Session,
        fields: Fields,
        choice: Choice,
        melody: Melody,
        remarks: tuple[str, ...],
        is_edited: bool,
    ) -> None:
        """Write a melody as PLAN, and show what is read from there: that is what is sung."""
        path = session.path(f"new-{PLAN}")
        write_midi(melody, path)
        try:
            request = self._request(session, fields, choice, planned=True)
            request = replace(request, melody=MelodyRequest(str(path)))
            voice = self._voice(request)
            backing = self._backing(session)
            read = make_melody(request, voice, Pronouncer(request.lexicon), backing)
            path.replace(session.path(PLAN))
        except ValueError as error:
            raise ValueError(str(error).replace(f"{path}: ", "")) from error
        finally:
            path.unlink(missing_ok=True)
        remarks = tuple(dict.fromkeys((*remarks, *read.remarks)))
        session.plan = Plan(choice, read.underlay.score, read.underlay.guessed, remarks, is_edited)

    def shown_plan(self, session: Session) -> dict[str, Any]:
        """Describe the plan of a session for the page."""
        if session.plan is None:
            raise ValueError("there is no plan yet: compose a melody")
        return session.plan.report(self._harmony(session))

    # ------------------------------------------------------------------------ sing

    def prepare(self, session: Session, fields: Fields) -> tuple[str, Callable[[], Take]]:
        """Check what is to be sung; return a title, and the work for the queue."""
        plan = session.plan
        if plan is None:
            raise ValueError("there is no plan yet: compose a melody")
        runs = self.runs()
        manner = Manner.of(fields, runs)
        again, accompaniment = None, session.uploads.get("accompaniment")
        if fields.get("regions"):
            again, before = self._again(session, fields)
            accompaniment = before.accompaniment
        number = session.next_number()
        folder = session.path(f"take-{number:03d}")
        planned = plan.score is not None
        files = self._snapshot(session, folder / INPUTS, again, accompaniment)
        try:
            request = song_request(plan.choice, manner, files, runs, folder, planned, again)
            arguments = shell_arguments(
                plan.choice, manner, files, runs, "out/song", planned, again
            )
        except ValueError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        title = f"{again.ranges} s of take {again.take}" if again else "the whole song"

        def work() -> Take:
            try:
                paths, remarks = sing_song(request, self.settings.device)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            about = take_report(folder, again, request.seed, title, shell_command(arguments))
            about["remarks"] = grouped(remarks)
            names = tuple(path.name for path in paths)
            take = Take(number, folder, names, accompaniment, plan, about)
            session.add_take(take, self.settings.most_takes)
            return take

        return title, work

    def _again(self, session: Session, fields: Fields) -> tuple[Again, Take]:
        """Return the parts of a take that are to be sung again, and that take."""
        take = session.take(fields.get("take"))
        if "vocal.wav" not in take.names or take.accompaniment is None:
            raise ValueError("spoken lyrics have no parts to sing again: give an accompaniment")
        regions = regions_of(fields, take.about["seconds"])
        words = optional_text(fields, "words", MOST_LYRICS)
        return Again(take.number, take.folder / "vocal.wav", regions, words), take

    def _snapshot(
        self, session: Session, folder: Path, again: Again | None, accompaniment: Upload | None
    ) -> Files:
        """Copy the texts that a take is made from: the session's may change meanwhile."""
        folder.mkdir(parents=True)
        for name in (LYRICS, PLAN, LEXICON):
            if session.path(name).is_file():
                shutil.copyfile(session.path(name), folder / name)
        if again is not None and again.words:
            write_text(folder / LYRICS, again.words)
        return replace(
            self._files(session),
            folder=folder,
            accompaniment=None if accompaniment is None else accompaniment.path,
        )

    def shown_takes(self, session: Session) -> list[dict[str, Any]]:
        """Describe the takes of a session, the newest first."""
        return [
            {
                "number": take.number,
                "files": list(take.names),
                "inputs": sorted(path.name for path in (take.folder / INPUTS).glob("*")),
                "accompaniment": take.accompaniment and take.accompaniment.name,
                **take.about,
            }
            for take in reversed(session.takes)
        ]

    def file_of_take(self, session: Session, number: int, name: str) -> Path:
        """Return a file of a take; ValueError for any name that was not written."""
        take = session.take(number)
        for folder, names in (
            (take.folder, take.names),
            (take.folder / INPUTS, (LYRICS, PLAN, LEXICON)),
        ):
            if name in names and (folder / name).is_file():
                return folder / name
        if name == "accompaniment" and take.accompaniment is not None:
            return take.accompaniment.path
        raise ValueError(f"take {number} has no such file")

    # ------------------------------------------------------------------------ helpers

    def runs(self) -> dict[str, dict[str, Path]]:
        """Return the checkpoints that can be chosen now."""
        return find_runs(self.settings)

    def shown_runs(self) -> dict[str, list[dict[str, object]]]:
        """Describe the checkpoints for the page."""
        return describe_runs(self.runs())

    def _request(
        self, session: Session, fields: Fields, choice: Choice, planned: bool = False
    ) -> SongRequest:
        """Return the request of a plan; networks as the page sends them."""
        runs = self.runs()
        manner = replace(Manner.of({**fields, "seed": 0}, runs), seed=choice.seed)
        files = self._files(session)
        return song_request(choice, manner, files, runs, session.path("plan"), planned)

    def _default_request(self, session: Session) -> SongRequest:
        """Return a request for the first checkpoint of each kind."""
        runs = self.runs()
        manner = Manner.of({}, runs)
        return SongRequest(
            session.path("plan"),
            runs["transformer"][manner.transformer],
            runs["postnet"][manner.postnet],
            runs["inpainter"].get(manner.inpainter),
            lyrics=parse_lyrics("la"),
        )

    def _networks(self, request: SongRequest) -> Networks:
        """Load the networks of a request, or take those that were loaded last."""
        chosen = (request.transformer, request.postnet, request.inpainter)
        paths = [
            resolve(path, kind, self.settings.save)
            for path, kind in zip(chosen, CHOSEN_KINDS, strict=True)
            if path is not None
        ]
        key = (*((path, path.stat().st_mtime_ns) for path in paths), request.changes)
        with self._loading:
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = None  # not both in memory
                self._loaded = key, load_networks(request, self.settings.device)
            return self._loaded[1]

    def _voice(self, request: SongRequest) -> Voice:
        """Return the voice of a request that has words."""
        voice = self._networks(request).voice
        assert voice is not None, "a plan has words"
        return voice

    def _open(self, path: Path, networks: Networks) -> SongAudio:
        """Open an accompaniment as the singing chain does, at the same level."""
        hp, inpainter = networks.hyperparams, networks.inpainter
        data = inpainter.data if inpainter else {}
        return open_song(SongFiles(path), hp.audio.sample_rate, data, hp.diffusion.sigma_data)

    def _files(self, session: Session) -> Files:
        """Return the files of a session as they stand."""
        paths = {kind: upload.path for kind, upload in session.uploads.items()}
        names = {upload.path: upload.name for upload in session.uploads.values()}
        return Files(session.folder, paths.get("accompaniment"), paths.get("melody"), names)

    def _backing(self, session: Session) -> KnownBacking | None:
        """Return the accompaniment of a session, with the harmonies that are known of it."""
        upload = session.uploads.get("accompaniment")
        if upload is None:
            return None
        return self._backing_of(session, upload.path, upload.about["seconds"])

    def _backing_of(self, session: Session, path: Path, seconds: float) -> KnownBacking:
        networks = self._networks(self._default_request(session))
        rate = networks.hyperparams.audio.sample_rate
        return KnownBacking(
            torch.empty(0),
            rate,
            seconds,
            open=lambda: BackingAudio.of(self._open(path, networks), rate),
            known=session.harmonies,
            key=path,
        )

    def _harmony(self, session: Session) -> Harmony | None:
        backing = self._backing(session)
        return None if backing is None else backing.harmony()
