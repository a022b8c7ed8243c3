"""The command line of synthesis, run for real with tiny networks: speech, songs, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import TINY
from tiny_chain import Run, integers, music, write

from singing import output as song_output
from singing.inpaint import PAUSE
from utils import config
from utils.audio import active_level, true_peak

# ---------------------------------------------------------------------------- speech


def test_lyrics_alone_are_spoken(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--lyrics", "oh\nyes zyxwab", "--set", "synthesis.griffin_lim_iterations=4") == 0
    out = tmp_path / "out"
    stems = [f"{line}{end}" for line in ("01", "02") for end in (".wav", "_mel.npy")]
    pictures = ["01_attention.png", "02_attention.png"]
    expected = {*stems, *pictures, "lyrics.wav", "report.json"}
    assert {path.name for path in out.iterdir()} == expected
    assert {str(out / name) for name in expected} <= set(capsys.readouterr().out.splitlines())
    report = json.loads((out / "report.json").read_text())
    assert report["synthesis"]["griffin_lim_iterations"] == 4
    assert report["transformer"]["step"] == 3 and report["sample_rate"] == 16000
    assert [line["guessed_words"] for line in report["lines"]] == [[], ["zyxwab"]]
    assert [line["seed"] for line in report["lines"]] == [0, 1]
    assert {"coverage", "focus", "skipped_words"} <= set(report["lines"][0]["attention"])
    rows = [integers(out / f"{line}.wav") for line in ("01", "02")]
    pause = np.zeros((round(PAUSE * 16000), 1), np.int32)
    assert np.array_equal(integers(out / "lyrics.wav"), np.concatenate([rows[0], pause, rows[1]]))
    assert len(np.load(out / "01_mel.npy")) == 1 + len(rows[0]) // 256

    assert run("--lyrics", "oh", "--set", "synthesis.griffin_lim_iterations=4", out="alone") == 0
    alone = np.load(tmp_path / "alone" / "01_mel.npy")  # a line does not hear the others
    assert np.allclose(alone, np.load(out / "01_mel.npy"), atol=1e-4)


def test_a_run_is_named_and_its_step_is_said(
    run: Run,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "save" / "transformer" / "mine" / "last.pt"
    demo = tmp_path / "save" / "demo" / "transformer.pt"
    for path in (own, demo):
        path.parent.mkdir(parents=True)
        path.symlink_to(weights / "transformer.pt")
    quick = ("--lyrics", "oh", "--set", "synthesis.griffin_lim_iterations=1", "--checkpoint")
    assert run(*quick, "mine") == 0
    assert f"transformer: {own.relative_to(tmp_path)}, step 3\n" in capsys.readouterr().err
    assert run(*quick, demo.relative_to(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "ships with the repository; your own newest run: --checkpoint mine" in said
    assert run(*quick, "mine", "--step", 3) == 0
    assert f"transformer: {own.relative_to(tmp_path)}, step 3\n" in capsys.readouterr().err
    assert run(*quick, "mine", "--step", 7) == 2
    said = capsys.readouterr().err
    assert "no transformer checkpoint of step 7" in said
    assert "transformer/mine/last.pt: transformer, step 3" in said
    assert run(*quick, "yours") == 2
    assert "transformer/mine/last.pt" in capsys.readouterr().err


def test_attention_is_drawn_of_few_lines_or_when_asked_for(run: Run, tmp_path: Path) -> None:
    quick = ("--set", "synthesis.griffin_lim_iterations=1")
    for flags, count in (((), 0), (("--pictures",), 5)):
        out = tmp_path / f"{count}"
        assert run("--lyrics", "oh\nmy\noh\nmy\noh", *quick, *flags, out=out.name) == 0
        assert len([*out.glob("*_attention.png")]) == count
        assert len([*out.glob("??.wav")]) == 5


def test_sampling_follows_the_file_and_says_what_the_checkpoint_had(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = replace(
        TINY,
        synthesis=replace(TINY.synthesis, griffin_lim_iterations=2, level=-31.5),
    )
    monkeypatch.setitem(config.presets(), "tiny", edited)
    assert run("--lyrics", "oh", "--set", "synthesis.griffin_lim_iterations=3") == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["synthesis"]["level"] == -31.5  # the file
    assert report["synthesis"]["griffin_lim_iterations"] == 3  # the command line wins
    before = TINY.synthesis
    assert "synthesis.level = -31.5, as hyperparams.py has it (preset tiny)" in said
    assert f"--set synthesis.level={before.level} takes that" in said
    wav = torch.from_numpy(integers(tmp_path / "out" / "01.wav")[:, 0] / 2.0**31)
    assert active_level(wav.float(), TINY.audio.hop_length) == pytest.approx(-31.5, abs=0.1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--lyrics", "--accompaniment"]),
        (["--lyrics", "missing.txt"], ["missing.txt", "no such file"]),
        (["--lyrics", "..."], ["no line of lyrics", "words to sing"]),
        (["--lyrics", "examples/lyric"], ["examples/lyric", "no such file"]),
        (["--lyrics", "none.srt"], ["none.srt", "no such file"]),
        (["--lyrics", "oh", "--part", "2"], ["only with --melody FILE"]),
        (["--lyrics", "oh", "--set", "transformer.width=8"], ["synthesis.NAME=VALUE"]),
        (["--lyrics", "oh", "--set", "inpainting.num_steps=2"], ["with --accompaniment"]),
        (["--lyrics", "oh", "--set", "synthesis.nonsense=2"], ["griffin_lim_iterations"]),
        (["--lyrics", "oh", "--steps", "4", "--vocal", "x.wav"], ["--vocal, --steps: only with"]),
        (
            ["--lyrics", "oh", "--checkpoint", "nowhere.pt"],
            ["nowhere.pt", "no transformer checkpoint"],
        ),
    ],
)
def test_speech_refuses(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: list[str],
) -> None:
    assert run(*flags) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not [*tmp_path.iterdir()]


# ---------------------------------------------------------------------------- songs


def test_range_and_density_are_of_composed_melodies(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = write(tmp_path / "song.wav", music(1.3, 44100, 2), 44100)
    for flag, value in (("--range", "C4-C5"), ("--density", "2")):
        assert run("--melody", "x.mid", "--accompaniment", str(song), flag, value) == 2
        assert "--melody FILE has its notes" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--balance nan", "--glide nan", "--breath -1", "--swell inf"])
def test_numbers_of_flags_are_finite(run: Run, capsys, given: str) -> None:
    with pytest.raises(SystemExit):
        run("--lyrics", "oh", *given.split())
    assert "expected a number" in capsys.readouterr().err


def test_a_vocal_for_an_accompaniment(
    sing: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = write(tmp_path / "song.wav", music(1.3, 44100, 2), 44100)
    report = sing("--accompaniment", song)
    assert "--lyrics 'la la la la'" in capsys.readouterr().out
    out = tmp_path / "out"
    names = {"vocal.wav", "mix.wav", "song.png", "report.json"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "song.png").read_bytes().startswith(b"\x89PNG")
    vocal, mix = integers(out / "vocal.wav"), integers(out / "mix.wav")
    assert vocal.shape == (57330, 1) and mix.shape == (57330, 2)  # to the sample
    assert soundfile.info(out / "mix.wav").samplerate == 44100
    assert true_peak(torch.from_numpy(mix.T / 2.0**31), 44100) < -1.0
    loudness = report["mix"]["loudness"]
    assert loudness["vocal"] - loudness["accompaniment_under_vocal"] == pytest.approx(3.0)
    assert vocal.std() > 0 and report["generated"] == [[0.0, 1.3]]
    assert report["network_evaluations"] == 2 * report["windows"]
    seams = report["seams"]
    assert len(seams) == report["windows"] - 1 and report["worst_seam"] < 10
    assert set(report["real_time_factor"]) >= {"load", "inpaint", "write", "all"}
    assert report["inpainting"]["num_steps"] == 2 and report["inpainter"]["step"] == 3


@pytest.mark.usefixtures("no_picture")
def test_a_plain_mix_is_the_sum_of_its_stems(
    run: Run, sing: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = write(tmp_path / "song.wav", 0.3 * music(0.9))
    report = sing("--accompaniment", song, "--balance", "-4", "--plain-mix")
    assert report["mixing"] == {"balance": -4.0, "dip": 0.0, "presence": 0.0, "room": 0.0}
    gain = 10 ** (report["mix"]["gain"] / 20)
    vocal, mix = (integers(tmp_path / "out" / f"{name}.wav") for name in ("vocal", "mix"))
    assert np.allclose(mix, gain * (integers(song).astype(float) + vocal), atol=2.0**18)
    sing("--accompaniment", song, "--balance", "-4", "--set", "mixing.room=0.5", out="room")
    assert not np.allclose(integers(tmp_path / "room" / "mix.wav"), mix, atol=2.0**20)
    assert run("--lyrics", "oh", "--balance", "2", out="x") == 2
    assert "--balance: only with --accompaniment" in capsys.readouterr().err


@pytest.mark.usefixtures("no_picture")
def test_lyrics_steer_the_vocal_and_stand_at_their_times(
    sing: Callable[..., Any], tmp_path: Path
) -> None:
    song = write(tmp_path / "song.wav", music(1.6))
    lyrics = tmp_path / "words.lrc"
    lyrics.write_text("[00:00.40]oh\n[00:01.00]my zyxwab")
    common = ("--accompaniment", song, "--set", "inpainting.lyrics_guidance=2")
    report = sing(*common, "--lyrics", lyrics, "--set", "synthesis.griffin_lim_iterations=4")
    draft = integers(tmp_path / "out" / "draft.wav")[:, 0]
    assert len(draft) == len(integers(song))
    starts = [line["start"] for line in report["lines"]]
    assert np.allclose(starts, [0.4, 1.0], atol=0.008)  # half a frame
    assert not draft[: round(starts[0] * 16000)].any()
    end = round((starts[0] + report["lines"][0]["seconds"]) * 16000)
    assert draft[round(starts[0] * 16000) : end].any()
    assert not draft[end : round(starts[1] * 16000)].any()
    assert report["lines"][1]["guessed_words"] == ["zyxwab"]
    assert "coverage" in report["lines"][0]["attention"]
    assert report["network_evaluations"] == 2 * 2 * report["windows"]  # guidance counts
    sing("--accompaniment", song, out="plain")
    assert not (tmp_path / "plain" / "draft.wav").exists()
    sung, plain = (integers(tmp_path / out / "vocal.wav") for out in ("out", "plain"))
    assert not np.allclose(sung, plain, atol=2**24)  # the network is told


@pytest.mark.usefixtures("no_picture")
def test_with_a_draft_it_looks_once_and_keeps_its_share(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    song = write(tmp_path / "song.wav", music(1.6))
    flags = ("--accompaniment", song, "--inpainter", weights / "shaped.pt", "--melody", "none")
    flags += ("--set", "synthesis.griffin_lim_iterations=4")
    alike = {}
    for share in (0.0, 0.5, 1.0):
        out = f"share-{share}"
        share_flag = ("--set", f"inpainting.draft_share={share}")
        assert run(*flags, "--lyrics", "oh my", *share_flag, out=out) == 0
        report = json.loads((tmp_path / out / "report.json").read_text())
        assert report["network_evaluations"] == report["windows"] > 1
        tracks = [integers(tmp_path / out / f"{name}.wav")[:, 0] for name in ("vocal", "draft")]
        alike[share] = np.corrcoef(*tracks)[0, 1]
    assert alike[0.0] < 0.6 < 0.7 < alike[0.5] < 0.98 < 0.99 < alike[1.0]
    assert run(*flags, out="alone") == 0
    report = json.loads((tmp_path / "alone" / "report.json").read_text())
    assert report["network_evaluations"] == 2 * report["windows"]  # without one it walks


@pytest.mark.usefixtures("no_picture")
def test_parts_are_sung_again_and_all_else_stays_bit_by_bit(
    sing: Callable[..., Any], tmp_path: Path
) -> None:
    song = write(tmp_path / "song.wav", music(1.6, 16000, 2))
    take = write(tmp_path / "take.wav", 0.5 * music(1.5, hertz=330.0))
    ranges = "1.0-1.2,0.3-0.5,0.45-0.6"
    report = sing("--accompaniment", song, "--vocal", take, "--inpaint", ranges)
    old, new = integers(take), integers(tmp_path / "out" / "vocal.wav")
    is_known = np.ones(len(old), bool)
    is_known[4800:9600] = is_known[16000:19200] = False
    assert old.shape == new.shape and np.array_equal(old[is_known], new[is_known])
    assert (old != new)[~is_known].mean() > 0.9
    assert report["generated"] == [[0.3, 0.6], [1.0, 1.2]]
    assert any("0.3-0.5 s and 0.45-0.6 s" in remark for remark in report["song"]["remarks"])
    edges = [seam["seconds"] for seam in report["seams"] if seam["kind"] == "edge"]
    assert edges == [0.3, 0.6, 1.0, 1.2]
    assert max(seam["roughness"] for seam in report["seams"]) < 5
    assert report["mix"]["vocal_gain"] == 0.0  # a vocal of one's own keeps its level
    assert len(integers(tmp_path / "out" / "mix.wav")) == len(integers(song))

    common = ("--accompaniment", song, "--vocal", take, "--inpaint", ranges)
    sing(*common, "--set", "inpainting.batch_size=1", out="one")
    one = integers(tmp_path / "one" / "vocal.wav")
    assert np.abs(one - new).max() <= 2**17  # the batch is nobody's business (one unit of 16 bits)
    sing(*common, "--seed", 1, out="seed")
    assert not np.array_equal(integers(tmp_path / "seed" / "vocal.wav"), new)
    away = []
    for strength in (1, 0.1):  # --steps 8: 8 levels, then 2 of them, near the old take
        flags = ("--steps", 8, "--strength", strength)
        report = sing(*common, *flags, out=f"near-{strength}")
        assert report["network_evaluations_per_window"] == {1: 8, 0.1: 2}[strength]
        near = integers(tmp_path / f"near-{strength}" / "vocal.wav")
        assert np.array_equal(near[is_known], old[is_known])
        away.append(np.abs(near / 2.0**31 - old / 2.0**31)[~is_known].mean())
    assert away[1] < 0.3 * away[0]


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("method", ["replacement", "guided"])
def test_methods_of_the_joint_model(sing: Callable[..., Any], tmp_path: Path, method: str) -> None:
    song = write(tmp_path / "song.wav", music(0.5))
    take = write(tmp_path / "take.wav", music(0.5, hertz=330.0))
    flags = ("--accompaniment", song, "--vocal", take, "--inpaint", "0.2-0.3", "--method", method)
    report = sing(*flags)
    old, new = integers(take), integers(tmp_path / "out" / "vocal.wav")
    assert np.array_equal(old[:3200], new[:3200]) and np.array_equal(old[4800:], new[4800:])
    assert report["inpainting"]["method"] == method
    sing(*flags[:-2], out="told")
    assert not np.array_equal(new[3200:4800], integers(tmp_path / "told" / "vocal.wav")[3200:4800])


@pytest.mark.usefixtures("no_picture")
def test_a_vocal_of_another_rate_in_stereo_and_24_bits_keeps_its_samples(
    sing: Callable[..., Any], tmp_path: Path
) -> None:
    song = write(tmp_path / "song.flac", music(1.2, 22050), 22050)
    take = write(tmp_path / "take.flac", music(0.9, 44100, 2, 330.0), 44100, "PCM_24")
    report = sing(
        "--accompaniment", song, "--vocal", take, "--inpaint", "0.2-0.4", "--extend", 0.25
    )
    path = tmp_path / "out" / "vocal.wav"
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (44100, 2, "PCM_24")
    old, new = integers(take), integers(path)
    assert len(new) == len(old) + 11025
    assert np.array_equal(new[:8820], old[:8820])
    assert np.array_equal(new[17640 : len(old)], old[17640:])
    assert new[len(old) :].any() and not np.array_equal(new[8820:17640], old[8820:17640])
    mix = soundfile.info(tmp_path / "out" / "mix.wav")
    assert (mix.samplerate, mix.channels, mix.frames) == (22050, 1, 26460)
    assert [round(s, 6) for part in report["generated"] for s in part] == [0.2, 0.4, 0.9, 1.15]


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "subtype"),
    [
        (0.1, 16000, 1, "PCM_16"),  # shorter than a window
        (0.6, 8000, 1, "PCM_U8"),
        (0.3, 192000, 2, "PCM_24"),
        (0.4, 48000, 6, "FLOAT"),
        (0.0003, 16000, 1, "PCM_16"),
    ],
)
def test_unusual_accompaniments_keep_rate_channels_and_length(
    sing: Callable[..., Any],
    tmp_path: Path,
    seconds: float,
    rate: int,
    channels: int,
    subtype: str,
) -> None:
    song = write(tmp_path / "song.wav", music(seconds, rate, channels), rate, subtype)
    report = sing("--accompaniment", song)
    before, after = (soundfile.info(p) for p in (song, tmp_path / "out" / "mix.wav"))
    for name in ("samplerate", "channels", "frames"):
        assert getattr(before, name) == getattr(after, name)
    vocal = soundfile.info(tmp_path / "out" / "vocal.wav")
    assert (vocal.samplerate, vocal.frames) == (rate, before.frames)
    assert report["song"]["channels"] == channels
    if channels == 6:
        mix, song_wav = (soundfile.read(p)[0] for p in (tmp_path / "out" / "mix.wav", song))
        scale = 10 ** (report["mix"]["gain"] / 20)
        assert np.allclose(mix[:, 2:], scale * song_wav[:, 2:], atol=1e-4)  # only the front sings


@pytest.mark.usefixtures("no_picture")
def test_an_inpainter_of_another_rate_works_alone_but_not_with_this_voice(
    run: Run, sing: Callable[..., Any], weights: Path, tmp_path: Path, capsys: Any
) -> None:
    song = write(tmp_path / "song.wav", music(0.5))
    flags = ("--accompaniment", song, "--inpainter", weights / "inpainter-22050.pt")
    sing(*flags)
    assert len(integers(tmp_path / "out" / "vocal.wav")) == 8000
    capsys.readouterr()
    assert run(*flags, "--lyrics", "oh", out="other") == 2
    assert "audio.sample_rate is 16000 and 22050" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--accompaniment", "nowhere.wav"], ["nowhere.wav", "no such audio file"]),
        (["--accompaniment", "words.txt"], ["words.txt", "not readable as audio"]),
        (["--accompaniment", "silent.wav"], ["silent"]),
        (["--accompaniment", "broken.wav"], ["NaN or infinite"]),
        (["--vocal", "broken.wav", "--inpaint", "0-0.1"], ["broken.wav", "NaN or infinite"]),
        (["--vocal", "take.wav", "--inpaint", "0.4-0.2"], ["not behind its start"]),
        (["--vocal", "take.wav", "--inpaint", "0.4-9"], ["not inside", "0 to 0.500 s"]),
        (["--vocal", "take.wav"], ["nothing to make"]),
        (["--inpaint", "0.1-0.2"], ["--vocal FILE"]),
        (["--vocal", "take.wav", "--extend", "9"], ["behind the accompaniment's end"]),
        (["--lyrics", "la la la la la la la " * 9], ["the draft of 1 lines lasts", "fewer"]),
        (["--lyrics", "late.lrc"], ["line 1 starts at 60.00 s", "0.80 s"]),
        (["--strength", "0.5"], ["starts from a draft"]),
        (["--strength", "7"], ["share in (0, 1]"]),
        (["--method", "magic"], ["conditional, replacement"]),
        (["--set", "inpainting.step=magic"], ["dpmpp_2m"]),
        (["--set", "inpainting.sigma_min=9"], ["sigma_min"]),
        (["--set", "unet.channels=9"], ["inpainting.NAME=VALUE"]),
        (["--steps", "many"], ["inpainting.num_steps", "many"]),
        (["--set", "inpainting.lyrics_guidance=2"], ["no frame-level condition", "--lyrics"]),
        (["--set", "inpainting.draft_share=2"], ["draft_share = 2", "[0, 1]"]),
        (["--method", "repaint", "--guidance", "2"], ["conditional"]),
        (["--inpainter", "nowhere.pt"], ["nowhere.pt", "no inpainter checkpoint"]),
        (["--inpainter", "postnet.pt"], ["holds a postnet, expected a inpainter"]),
    ],
)
def test_songs_refuse_and_leave_nothing(
    run: Run,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: list[str],
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write(here / "song.wav", music(0.8))
    write(here / "take.wav", music(0.5))
    write(here / "silent.wav", np.zeros(8000))
    write(here / "broken.wav", np.where(np.arange(8000) == 70, np.nan, 0.1), subtype="FLOAT")
    (here / "words.txt").write_text("no sound at all")
    (here / "late.lrc").write_text("[01:00.00]oh")
    (here / "postnet.pt").symlink_to(weights / "postnet.pt")
    before = {path.name for path in here.iterdir()}
    assert run("--accompaniment", "song.wav", "--steps", 2, *flags) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert {path.name for path in here.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_failure_while_writing_leaves_what_was_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    out = tmp_path / "out"
    out.mkdir()
    (out / "vocal.wav").write_text("of yesterday")
    song = write(tmp_path / "song.wav", music(0.3))
    monkeypatch.setattr(song_output, "write_picture", fail)
    assert run("--accompaniment", song, "--steps", 1) == 2
    assert [path.name for path in out.iterdir()] == ["vocal.wav"]
    assert (out / "vocal.wav").read_text() == "of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "song.wav"}


@pytest.mark.usefixtures("no_picture")
def test_quality_trades_steps_and_flags_win(run: Run, tmp_path: Path) -> None:
    song = write(tmp_path / "song.wav", music(0.5))
    assert run("--accompaniment", song, "--quality", "draft") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["network_evaluations_per_window"] == 6
    assert run("--accompaniment", song, "--quality", "best", "--steps", 3, out="own") == 0
    report = json.loads((tmp_path / "own" / "report.json").read_text())
    assert report["inpainting"]["num_steps"] == 3
    assert report["inpainting"]["step"] == "dpmpp_2m_sde"
