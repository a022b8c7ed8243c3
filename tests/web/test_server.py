"""The server of the page: plan, change, sing, sing again; bounds; nobody else's files."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from page_client import LYRICS, ROOT, PageClient
from tiny_chain import Run, integers, music, write

import synthesis
from web.settings import Settings

pytestmark = pytest.mark.usefixtures("no_picture")
Serve = Callable[..., PageClient]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """The first 6 s of the example's accompaniment: stereo, 22.05 kHz."""
    wav, rate = soundfile.read(ROOT / "examples" / "evening-sun.ogg", frames=6 * 22050)
    return write(tmp_path / "my song.wav", wav, rate)


@pytest.fixture
def planned(serve: Serve, song: Path) -> PageClient:
    """A page with a song and a plan."""
    client = serve()
    client.put("/api/accompaniment", song, quote(song.name))
    client.post("/api/plan", lyrics=LYRICS, seed=3)
    return client


def file_of(client: PageClient, take: int, name: str) -> bytes:
    status, content, _ = client.raw("GET", f"/api/takes/{take}/{name}")
    assert status == 200, content
    return content


def test_what_is_planned_and_changed_is_what_is_sung(
    planned: PageClient, song: Path, tmp_path: Path, run: Run
) -> None:
    plan = planned.get("/api/state")["plan"]
    words = LYRICS.replace("\n", " ").split()
    assert [note["text"] for note in plan["notes"] if note["text"]][: len(words)] == words
    assert {chord["name"] for chord in plan["harmony"]["chords"]} >= {"C", "F"}
    plan["notes"][2] |= {"pitch": plan["notes"][2]["pitch"] + 5, "text": "my"}
    changed = planned.post("/api/notes", notes=plan["notes"])
    assert changed["is_edited"]
    assert changed["notes"][2]["pitch"] == plan["notes"][2]["pitch"]
    assert changed["notes"][2]["phonemes"] == ["M", "AY1"]
    assert [n["onset"] for n in changed["notes"]] == pytest.approx(
        [n["onset"] for n in plan["notes"]], abs=2e-3
    )
    planned.post("/api/sing", seed=5)
    (take,) = planned.finished()["takes"]
    # The command that the page shows makes the same files, beside the files that it offers.
    words = shlex.split(take["command"])
    assert words[:2] == ["python", "synthesis.py"] and "my song.wav" in words
    for name in take["inputs"]:
        (tmp_path / name).write_bytes(file_of(planned, take["number"], name))
    flags = [str(tmp_path / w) if (tmp_path / w).is_file() else w for w in words[2:]]
    demo = tmp_path / "demo"
    assert run("--checkpoint", demo / "transformer.pt", *flags[: flags.index("--out")]) == 0
    for name in ("vocal.wav", "mix.wav", "topline.mid"):
        assert (tmp_path / "out" / name).read_bytes() == file_of(planned, take["number"], name)
    report = json.loads(file_of(planned, take["number"], "report.json"))
    assert report["seed"] == 5 and "my" in report["lines"][0]["text"]


def test_parts_are_sung_again_and_the_rest_is_kept(planned: PageClient, tmp_path: Path) -> None:
    planned.post("/api/sing", seed=1)
    planned.finished()
    notes = planned.get("/api/state")["plan"]["notes"]
    parts = [[round(n["onset"] - 0.05, 3), round(n["offset"], 3)] for n in (notes[1], notes[-1])]
    planned.post("/api/sing", take=1, regions=parts, words="away home", seed=2)
    takes = planned.finished()["takes"]
    assert [take["number"] for take in takes] == [2, 1] and takes[0]["of_take"] == 1
    assert takes[0]["kept"]["are_equal"] and takes[0]["kept"]["differs_inside"]
    samples = []
    for take in (1, 2):
        path = tmp_path / f"{take}.wav"
        path.write_bytes(file_of(planned, take, "vocal.wav"))
        samples.append(integers(path))
    rate = soundfile.info(path).samplerate
    inside = np.zeros(len(samples[0]), bool)
    for start, end in parts:
        inside[round(start * rate) : round(end * rate)] = True
    assert (samples[0][~inside] == samples[1][~inside]).all()
    assert (samples[0][inside] != samples[1][inside]).any()
    assert "--inpaint" in takes[0]["command"] and "--lyrics" in takes[0]["command"]
    lines = json.loads(file_of(planned, 2, "report.json"))["lines"]
    assert " ".join(line["text"] for line in lines) == "away home"


def test_a_melody_file_and_a_pronunciation_of_ones_own(serve: Serve, song: Path) -> None:
    client = serve()
    client.put("/api/accompaniment", song, "song.wav")
    words = client.post("/api/words", lyrics="Zyxqua, hello\n[Chorus]\nla")
    assert [word["is_guessed"] for word in words["lines"][0]["words"]] == [True, False]
    assert words["syllables"] == sum(line["syllables"] for line in words["lines"])
    client.post("/api/pronunciation", word="Zyxqua", phonemes="Z IH1 K S")
    words = client.post("/api/words", lyrics="Zyxqua, hello")
    assert words["lines"][0]["words"][0] == {
        "text": "zyxqua",
        "phonemes": "Z IH1 K S",
        "syllables": 1,
        "is_guessed": False,
    }
    assert "stress" in client.refused("POST", "/api/pronunciation", {"word": "a", "phonemes": "AH"})
    tune = client.post("/api/example", melody="twinkle")
    assert tune["notes"] > 10
    plan = client.post("/api/plan", lyrics="", melody="file", verse=1, tempo="400", transpose=2)
    assert plan["notes"][0]["text"] == "Twin" and plan["tempo"] == pytest.approx(400, abs=0.1)
    assert any("left out" in line for line in plan["remarks"]["not sung"])


def test_spoken_words(serve: Serve, song: Path) -> None:
    client = serve()
    client.put("/api/accompaniment", song, "song.wav")
    plan = client.post("/api/plan", lyrics=LYRICS, melody="none", transpose=None)
    assert plan["is_spoken"] and not plan["notes"]
    client.post("/api/sing", seed=0, inpainter="none")
    (take,) = client.finished()["takes"]
    assert "vocal.wav" in take["files"] and "--melody none" in take["command"]


def test_uploads_are_known_by_their_content_and_bounded(serve: Serve, tmp_path: Path) -> None:
    client = serve(upload_bytes=400_000, song_seconds=5.0)

    def refused(kind: str, name: str, content: bytes) -> str:
        return client.refused("PUT", f"/api/{kind}?name={quote(name)}", content)

    text = b"RIFF not really"
    assert "song.wav: not readable as audio" in refused("accompaniment", "song.wav", text)
    assert "empty" in refused("accompaniment", "song.wav", b"")
    long = write(tmp_path / "long.wav", music(6.0, 8000), 8000)
    assert "6 s; expected at most 5 s" in refused("accompaniment", "a.wav", long.read_bytes())
    assert "more than 0 MB" in refused("accompaniment", "a.wav", bytes(500_000))
    quiet = write(tmp_path / "quiet.wav", np.zeros((32000, 1)), 8000)
    shown = refused("accompaniment", "../../etc/quiet.wav", quiet.read_bytes())
    assert shown.startswith("quiet.wav is silent in mono")
    # The shell's words for the same file.
    assert synthesis.main(["--accompaniment", str(quiet), "--lyrics", "la"]) == 2
    aiff = write(tmp_path / "song.aiff", music(1.0), 16000)
    assert "expected wav, flac, ogg or mp3" in refused("accompaniment", "a", aiff.read_bytes())
    for content in (b"MThd\0\0", b"PK\x03\x04 no archive", b"<score", b"notes: H9", b"\0\1\2"):
        assert "tune" in refused("melody", "tune", content)
    assert "expected accompaniment or melody" in refused("passwords", "x", b"x")
    # Nothing of it is left behind.
    assert not [p for p in (tmp_path / "sessions").rglob("*") if p.is_file()]


def test_the_message_of_a_bad_song_is_the_shells(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    wav = music(3.0, 16000)
    wav[100:110] = np.nan
    path = write(tmp_path / "broken.wav", wav, 16000, "FLOAT")
    assert run("--accompaniment", path, "--lyrics", "la") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1].removeprefix("synthesis.py: ")
    shown = serve().refused("PUT", "/api/accompaniment?name=broken.wav", path.read_bytes())
    assert shown == said.replace(str(path), "broken.wav")


@pytest.mark.parametrize(
    ("fields", "message"),
    (
        ({"melody": "/etc/passwd", "lyrics": "la"}, "expected one of"),
        ({"lyrics": "la", "seed": -1}, "seed"),
        ({"lyrics": "la", "seed": 1.5}, "whole number"),
        ({"lyrics": "la", "low": 60}, "range"),
        ({"lyrics": "la", "tempo": "fast"}, "--tempo fast"),
        ({"lyrics": "la", "chords": "/etc/passwd"}, "chord"),
        ({"lyrics": "la", "transformer": "../../x"}, "transformer"),
        ({"lyrics": ["la"]}, "lyrics: expected a text"),
        ({"lyrics": "la", "melody": "file"}, "no melody file"),
    ),
)
def test_choices_are_checked(serve: Serve, song: Path, fields: dict, message: str) -> None:
    client = serve()
    client.put("/api/accompaniment", song, "song.wav")
    assert message in client.refused("POST", "/api/plan", fields)


def test_a_track_without_words_is_planned_on_a_syllable(serve: Serve, song: Path) -> None:
    """As `synthesis.py --accompaniment` alone sings it."""
    client = serve()
    client.put("/api/accompaniment", song, "song.wav")
    plan = client.post("/api/plan", melody="compose")
    assert plan["notes"] and {note["text"] for note in plan["notes"]} == {"la"}


def test_notes_are_checked(planned: PageClient) -> None:
    notes = planned.get("/api/state")["plan"]["notes"]

    def refused(*changed: object) -> str:
        return planned.refused("POST", "/api/notes", {"notes": list(changed)})

    assert "no note left" in refused()
    assert "object" in refused("x")
    assert "pitch" in refused({**notes[0], "pitch": 200})
    assert "onset" in refused({**notes[0], "onset": -1})
    assert "begin at" in refused(notes[0], notes[0])
    assert "not a phoneme" in refused({**notes[0], "text": "{QQ}"}, *notes[1:])
    assert planned.get("/api/state")["plan"]["notes"] == notes  # as it was
    long = {**notes[0], "offset": notes[1]["onset"] + 0.1}
    cut = planned.post("/api/notes", notes=[long, *notes[1:]])
    assert cut["notes"][0]["offset"] == pytest.approx(notes[1]["onset"], abs=2e-3)
    assert any("lasted into the next" in line for line in cut["remarks"]["changed"])


def test_sessions_do_not_see_each_other(planned: PageClient) -> None:
    planned.post("/api/sing", quality="draft", inpainter="none")
    planned.finished()
    assert len(file_of(planned, 1, "vocal.wav")) > 1000
    other = PageClient(planned.port)
    assert other.raw("GET", "/api/takes/1/vocal.wav")[0] == 404
    assert other.get("/api/state")["takes"] == []
    assert other.raw("GET", "/api/takes/1/vocal.wav")[0] == 404
    forged = PageClient(planned.port, "toplainer_session=../demo")
    assert forged.raw("GET", "/api/plan.mid")[0] == 404
    for name in ("..%2Fplan.mid", "%2e%2e%2f%2e%2e%2fdemo%2fpostnet.pt", "inputs", ".lock"):
        assert planned.raw("GET", f"/api/takes/1/{name}")[0] == 404
    assert planned.raw("GET", "/static/..%2Fserver.py")[0] == 404


def test_foreign_pages_are_refused(serve: Serve) -> None:
    client = serve(hosts=("studio.local",))
    port = client.port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "studio.local"):
        assert client.raw("GET", "/", Host=host)[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", f"10.0.0.5:{port}", "", "[::1"):
        assert client.raw("GET", "/api/state", Host=host)[0] in (400, 403), host
    own = f"http://127.0.0.1:{port}"
    assert client.raw("POST", "/api/words", '{"lyrics": "la"}', Origin=own)[0] == 200
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        assert client.raw("POST", "/api/words", '{"lyrics": "la"}', Origin=origin)[0] == 403
    crossed = client.raw("POST", "/api/job/cancel", "{}", Sec_Fetch_Site="cross-site")
    assert crossed[0] == 403
    _, _, headers = client.raw("GET", "/")
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_other_server() -> None:
    for path in (ROOT / "web" / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and '"//' not in text, path.name


def test_bad_requests_do_no_harm(serve: Serve) -> None:
    client = serve(json_bytes=1000)
    assert "JSON" in client.refused("POST", "/api/plan", "{")
    assert "object" in client.refused("POST", "/api/plan", "[]")
    assert "JSON" in client.refused("POST", "/api/plan", "[" * 900)
    assert "more than" in client.refused("POST", "/api/plan", '{"lyrics": "' + "la " * 500)
    assert "no plan" in client.refused("POST", "/api/sing", {})
    assert client.get("/api/state")["plan"] is None


def test_a_rendering_is_cancelled_and_leaves_nothing(
    planned: PageClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from web import service

    entered = []
    sing = service.sing_song

    def slow(*arguments: object) -> object:
        entered.append(1)
        time.sleep(0.3)
        return sing(*arguments)  # its first stage hears that it is cancelled

    monkeypatch.setattr(service, "sing_song", slow)
    planned.post("/api/sing")
    assert "under way" in planned.refused("POST", "/api/sing", {})
    while not entered:
        time.sleep(0.01)
    planned.post("/api/job/cancel")
    done = planned.finished()
    assert done["job"]["state"] == "cancelled" and done["takes"] == []
    assert not list(settings.folder.glob("*/take-*")) and not list(settings.folder.glob("*/.take*"))
    monkeypatch.setattr(service, "sing_song", sing)
    planned.post("/api/sing", inpainter="none")
    assert planned.finished()["job"]["state"] == "done"


def test_runs_below_save_are_sung_with(planned: PageClient, settings: Settings) -> None:
    run = settings.save / "transformer" / "mine"
    run.mkdir(parents=True)
    (run / "best.pt").write_bytes((settings.demo / "transformer.pt").read_bytes())
    runs = planned.get("/api/state")["runs"]
    assert [entry["name"] for entry in runs["transformer"]] == ["demo", "mine"]
    planned.post("/api/sing", transformer="mine", inpainter="none", quality="draft")
    (take,) = planned.finished()["takes"]
    report = json.loads(file_of(planned, 1, "report.json"))
    assert report["transformer"]["path"].endswith("mine/best.pt") and report["inpainter"] is None
    assert "--checkpoint mine --inpainter none" in take["command"]


def test_takes_are_bounded(serve: Serve, song: Path, settings: Settings) -> None:
    client = serve(most_takes=2)
    client.put("/api/accompaniment", song, "song.wav")
    client.post("/api/plan", lyrics="la la")
    for seed in range(3):  # two are kept
        client.post("/api/sing", seed=seed, quality="draft", inpainter="none")
        takes = client.finished()["takes"]
    assert [take["number"] for take in takes] == [3, 2]
    assert client.raw("GET", "/api/takes/1/vocal.wav")[0] == 404
    assert len(list(settings.folder.glob("*/take-*"))) == 2
