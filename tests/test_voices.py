"""Several voices in one network: the first is the network without voices, the others learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from test_network import FRAME, N_MELS, NUM_SYMBOLS, random_score
from test_training_scripts import features, flags, model_of
from tiny import TINY
from tiny_chain import save, write

import train_transformer
from corpora.cache import write_index
from corpora.stores import FeatureStore
from hyperparams import Composer
from network import TransformerTTS
from preprocess import TextMelDataset
from singing.melody import moved_into
from text.symbols import SYMBOLS
from train_transformer import numbered_voices, ranges_by_voice
from utils import checkpoint
from utils.loading import build_transformer, load_network

__all__ = ["features"]  # a fixture
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def transformer(voices: int) -> TransformerTTS:
    torch.manual_seed(0)
    hp = replace(TINY.transformer, voices=voices)
    network = TransformerTTS(hp, NUM_SYMBOLS, N_MELS, FRAME).eval()
    with torch.no_grad():
        network.to_stop.bias.fill_(-20.0)
    return network


def loud(network: TransformerTTS) -> TransformerTTS:
    """Voices that differ: the first stays zero."""
    assert network.voice is not None
    with torch.no_grad():
        network.voice.weight[1:].normal_(generator=torch.Generator().manual_seed(1))
    return network


def phrases(count: int = 3) -> tuple:
    torch.manual_seed(1)
    symbols = torch.randint(1, NUM_SYMBOLS, (count, 7))
    history = torch.randn(count, 24, N_MELS)
    lengths, frames = torch.full((count,), 7), torch.full((count,), 24)
    return symbols, lengths, history, frames, random_score(symbols, 24)


def forward(network: TransformerTTS, voice: torch.Tensor | None) -> torch.Tensor:
    symbols, lengths, history, frames, score = phrases()
    keep = torch.ones(3, -(-24 // network.reduction_factor), 2, network.hp.prenet_width)
    return network(symbols, lengths, history, frames, score, keep=keep, voice=voice).mel


def test_a_network_without_voices_is_what_it_was() -> None:
    assert transformer(0).voice is None
    names = set(transformer(2).state_dict()) - set(transformer(0).state_dict())
    assert names == {"voice.weight"}


def test_every_voice_begins_as_the_network_without_voices() -> None:
    expected = forward(transformer(0), None)
    network = transformer(2)
    for voice in (None, torch.tensor([0, 1, 2])):
        assert torch.equal(forward(network, voice), expected)
    # Whatever the others have learnt, the first one stays.
    assert torch.equal(forward(loud(network), torch.zeros(3, dtype=torch.long)), expected)


def test_gradient_reaches_the_voice_that_sings_alone() -> None:
    network = transformer(3)
    forward(network, torch.tensor([0, 2, 2])).square().sum().backward()
    assert network.voice is not None and network.voice.weight.grad is not None
    reached = network.voice.weight.grad.abs().sum(1) > 0
    assert reached.tolist() == [False, False, True, False]


def test_an_item_has_its_own_voice_whatever_is_decoded_beside_it() -> None:
    network = loud(transformer(2))
    symbols, lengths, _, frames, score = phrases()
    voice = torch.tensor([0, 1, 2])
    together = network.generate(symbols, lengths, [4, 4, 4], frames, score=score, voice=voice).mel
    for row in range(3):
        alone = network.generate(
            symbols[row : row + 1], lengths[row : row + 1], [4], frames[row : row + 1],
            score=score.select(row, 7, 24), voice=voice[row : row + 1],
        ).mel  # fmt: skip
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)
    first = network.generate(symbols, lengths, [4, 4, 4], frames, score=score).mel
    assert torch.equal(first[0], together[0])
    assert (first[1:] - together[1:]).abs().amax((1, 2)).min() > 0.01


def test_known_voices_keep_their_numbers() -> None:
    assert numbered_voices(["b", "c"], 3, ["a", "b"]) == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"3 voices \(a, b, c\).*transformer\.voices=3"):
        numbered_voices(["b", "c"], 2, ["a", "b"])


def give_voices(directory: Path, names: tuple[str, ...]) -> None:
    """Let the items of a prepared corpus be sung in turn by the first voice and by others."""
    index = json.loads((directory / "index.json").read_text())
    for number, item in enumerate(index["items"]):
        item.pop("voice", None)
        if name := ("", *names)[number % (len(names) + 1)]:
            item["voice"] = name
    write_index(directory, {k: v for k, v in index.items() if k != "checksum"})


def test_voices_are_trained_kept_and_grown(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "save"
    give_voices(features / "x", ("ann", "bob"))
    arguments = flags("transformer", features, folder, "--steps", "3")
    assert train_transformer.main([*arguments, "--set", "transformer.voices=1"]) == 2
    assert "2 voices (ann, bob) beside the first" in capsys.readouterr().err
    assert train_transformer.main([*arguments, "--set", "transformer.voices=3"]) == 0
    state = checkpoint.load(folder / "transformer" / "r" / "last.pt", "transformer")
    assert state["data"]["voices"] == ["ann", "bob"]
    items = FeatureStore(features / "x").items("train")
    for name, range_of_name in state["data"]["pitch_ranges"].items():
        notes = [i["score"]["notes"] for i in items if i.get("voice", "first") == name]
        pitches = [pitch for own in notes for *_, pitch in own]
        assert range_of_name == [min(pitches), max(pitches)]
    assert {"first", "ann", "bob"} >= set(state["data"]["pitch_ranges"])
    learnt = model_of(folder, "transformer")["voice.weight"]
    assert (learnt.abs().sum(1) > 0).tolist() == [False, True, True, False]
    # Another corpus of the first and a third singer: those that are known keep their rows.
    give_voices(features / "x", ("cy",))
    more = ["--set", "transformer.voices=4", "--run", "more", "--steps", "0"]
    start = ["--start-from", str(folder / "transformer" / "r" / "last.pt")]
    assert train_transformer.main([*arguments, *more, *start]) == 0
    grown = checkpoint.load(folder / "transformer" / "more" / "last.pt", "transformer")
    assert grown["data"]["voices"] == ["ann", "bob", "cy"]
    assert torch.equal(grown["model"]["voice.weight"][:4], learnt)
    kept = state["data"]["pitch_ranges"]
    assert all(grown["data"]["pitch_ranges"][n] == kept[n] for n in ("ann", "bob") if n in kept)
    # The weights know no other scale than that of their own corpus.
    assert grown["data"]["statistics"] == state["data"]["statistics"]
    loaded = load_network(
        folder / "transformer" / "more" / "last.pt", "transformer", torch.device("cpu")
    )
    dataset = TextMelDataset(FeatureStore(features / "x"), "train")
    dataset.use_voices(loaded.data["voices"])
    batch = dataset.collate([dataset[n] for n in range(len(dataset))])
    expected = [3 if item.get("voice") else 0 for item in dataset.items]
    assert batch.voice.tolist() == expected and {0, 3} == set(expected)


def test_the_voice_is_chosen_by_name(
    weights: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    hp = replace(TINY, transformer=replace(TINY.transformer, voices=2))
    torch.manual_seed(0)
    network = loud(build_transformer(hp, len(SYMBOLS)))
    with torch.no_grad():
        network.to_stop.bias.fill_(20.0)
    save(tmp_path / "several.pt", "transformer", network, hp, voices=["ann", "bob"])
    common = ("--lyrics", "we sing", "--checkpoint", tmp_path / "several.pt")
    for flag, out in (((), "plain"), (("--voice", "first"), "first"), (("--voice", "bob"), "bob")):
        assert run(*common, *flag, out=out) == 0
    heard = {o: (tmp_path / o / "lyrics.wav").read_bytes() for o in ("plain", "first", "bob")}
    assert heard["plain"] == heard["first"] != heard["bob"]
    report = json.loads((tmp_path / "bob" / "report.json").read_text())
    assert '"bob"' in json.dumps(report)
    capsys.readouterr()
    assert run(*common, "--voice", "eve") == 2
    assert "several.pt; its voices: first, ann, bob" in capsys.readouterr().err
    assert run("--lyrics", "we sing", "--voice", "ann") == 2
    assert "its voices: first" in capsys.readouterr().err


def test_ranges_of_voices_are_kept_and_grow() -> None:
    ranges = {"": [50, 60], "ann": [60, 70]}
    assert ranges_by_voice(ranges, {}) == {"first": [50, 60], "ann": [60, 70]}
    start = {"voices": ["ann", "bob"], "pitch_ranges": {"ann": [65, 75], "bob": [40, 52]}}
    grown = {"first": [50, 60], "ann": [60, 75], "bob": [40, 52]}
    assert ranges_by_voice(ranges, start) == grown
    # Weights of one voice, from before: what they sang is the first one's.
    one = {"pitch_range": [48, 58]}
    assert ranges_by_voice({"ann": [60, 70]}, one) == {"first": [48, 58], "ann": [60, 70]}
    # Of several, from before: whose it was is not known.
    assert ranges_by_voice({}, {**one, "voices": ["ann"]}) == {}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, (53, 72)),  # a checkpoint that does not tell voices apart
        ((45, 80), (53, 72)),
        ((40, 62), (43, 62)),
        ((60, 84), (60, 79)),
        ((60, 70), (60, 70)),
        ((60, 62), (57, 65)),
    ],
)
def test_a_range_moves_as_little_as_can_be(
    own: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    moved = moved_into(Composer(), own)
    assert (moved.low, moved.high) == expected
    if own is None:
        assert moved == Composer()


def test_a_melody_is_composed_in_the_range_of_the_voice(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    hp = replace(TINY, transformer=replace(TINY.transformer, voices=2))
    network = build_transformer(hp, len(SYMBOLS))
    known = {"pitch_range": [40, 84], "voices": ["ann", "bob"]}
    several = {"first": [53, 72], "ann": [64, 80], "bob": [41, 55]}
    for name, more in (("new.pt", {"pitch_ranges": several}), ("old.pt", {})):
        save(tmp_path / name, "transformer", network, hp, **known, **more)
    wav, rate = soundfile.read(EXAMPLES / "evening-sun.ogg", frames=12 * 22050)
    song = ("--accompaniment", write(tmp_path / "song.wav", wav, rate), "--plan")
    common = ("--lyrics", "morning light on the window\noh stay with me", *song, "--checkpoint")

    def pitches(*flags: object, weights: str = "new.pt") -> list[int]:
        assert run(*common, tmp_path / weights, *flags, out="plan") == 0
        notes = json.loads((tmp_path / "plan" / "plan.json").read_text())["notes"]
        return sorted({note["pitch"] for note in notes})

    plain = pitches()
    assert plain == pitches("--voice", "first") == pitches("--voice", "bob", weights="old.pt")
    for name in ("ann", "bob"):
        low, high = several[name]
        sung = pitches("--voice", name)
        assert low <= sung[0] and sung[-1] <= high and sung != plain
    capsys.readouterr()
    wide = pitches("--voice", "bob", "--range", "60-72")  # who asks gets it, and hears of it
    assert wide[0] >= 60 and "outside the voice's range, MIDI 41 to 55" in capsys.readouterr().out
    assert run(*common, tmp_path / "new.pt", "--voice", "eve", out="plan") == 2
    assert "new.pt; its voices: first, ann, bob" in capsys.readouterr().err
