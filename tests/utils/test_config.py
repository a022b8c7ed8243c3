"""Hyperparameters: typed, strict, helpful when wrong, and the same after any round trip."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY, TINY_FLAGS

from hyperparams import Hyperparams
from utils import config


@dataclass(frozen=True)
class Section:
    """One knob of every type."""

    count: int = 3
    rate: float = 0.5
    on: bool = False
    name: str = "a"
    sizes: tuple[int, ...] = (1, 2)
    span: tuple[float, str] = (1.0, "x")
    limit: float | None = None


@dataclass(frozen=True)
class Knobs:
    """Holds one section."""

    part: Section = field(default_factory=Section)


def set_one(assignment: str) -> Section:
    return config.build("p", None, [assignment], {"p": Knobs()}).part


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("part.count=7", Section(count=7)),
        ("part.count=1e4", Section(count=10_000)),
        ("part.rate=1e-3", Section(rate=1e-3)),
        ("part.rate=2", Section(rate=2.0)),
        ("part.on=YES", Section(on=True)),
        ("part.on=0", Section(on=False)),
        ("part.name=b=c", Section(name="b=c")),
        ("part.name=", Section(name="")),
        ("part.sizes=4,5,6", Section(sizes=(4, 5, 6))),
        ("part.sizes=[4, 5]", Section(sizes=(4, 5))),
        ("part.sizes=()", Section(sizes=())),
        ("part.span=2,y", Section(span=(2.0, "y"))),
        ("part.limit=3", Section(limit=3.0)),
        ("part.limit=none", Section(limit=None)),
    ],
)
def test_values_take_the_annotated_type(assignment: str, expected: Section) -> None:
    found = set_one(assignment)
    assert found == expected
    for name in ("count", "rate", "on", "name"):
        assert type(getattr(found, name)) is type(getattr(expected, name))


@pytest.mark.parametrize(
    "assignment",
    [
        "part.count=1.5",
        "part.count=true",
        "part.count=__import__('os').getcwd()",
        "part.count=inf",
        "part.rate=fast",
        "part.on=maybe",
        "part.on=2",
        "part.sizes=1,x",
        "part.span=1,x,y",
    ],
)
def test_a_value_of_another_type_is_refused_by_name(assignment: str) -> None:
    with pytest.raises(ValueError, match=assignment.partition("=")[0]):
        set_one(assignment)


@pytest.mark.parametrize("assignment", ["part=3", "count=3", "part.count", "", "."])
def test_an_assignment_needs_section_name_and_value(assignment: str) -> None:
    with pytest.raises(ValueError, match="section"):
        set_one(assignment)


def test_unknown_names_list_what_there_is_and_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'transformer'") as error:
        config.build("base", None, ["transfomer.width=1"], config.presets())
    assert all(section in str(error.value) for section in config.to_dict(Hyperparams()))
    with pytest.raises(ValueError, match="did you mean 'heads'") as error:
        config.build("small", None, ["transformer.head=1"], config.presets())
    for name, value in config.to_dict(config.preset("small"))["transformer"].items():
        assert f"transformer.{name} = {value}" in str(error.value)
    with pytest.raises(ValueError, match="did you mean 'small'"):
        config.build("smal", None, [], config.presets())


def test_shell_wins_over_file_and_file_over_preset(tmp_path: Path) -> None:
    path = tmp_path / "knobs.yaml"
    path.write_text("transformer: {width: 64, heads: 2}\ntransformer_training:\n  steps: 1e3\n")
    found = config.build("small", path, ["transformer.width=128"], config.presets())
    small = config.preset("small")
    assert found == replace(
        small,
        transformer=replace(small.transformer, width=128, heads=2),
        transformer_training=replace(small.transformer_training, steps=1000),
    )
    assert config.differences(small, found) == [
        "transformer.width: 192 -> 128",
        "transformer.heads: 4 -> 2",
        f"transformer_training.steps: {small.transformer_training.steps} -> 1000",
    ]


def test_knobs_that_fit_only_together_may_be_set_in_any_order() -> None:
    for order in ([0, 1], [1, 0]):
        pair = ["transformer.width=66", "transformer.heads=3"]
        found = config.build("base", None, [pair[i] for i in order], config.presets())
        assert (found.transformer.width, found.transformer.heads) == (66, 3)
    with pytest.raises(ValueError, match="not a multiple"):
        config.build("base", None, ["transformer.width=66"], config.presets())


@pytest.mark.parametrize("text", ["[1, 2]", "transformer: 3", "a: {b: 1", "nothing: {x: 1}"])
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.yaml"):
        config.build("base", path, [], config.presets())
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        config.build("base", tmp_path / "absent.yaml", [], config.presets())


@pytest.mark.parametrize("preset", config.presets())
def test_every_preset_survives_dict_and_yaml(preset: str, tmp_path: Path) -> None:
    hyperparams = config.preset(preset)
    assert config.from_dict(config.to_dict(hyperparams), Hyperparams) == hyperparams
    path = tmp_path / "hyperparams.yaml"
    path.write_text(config.to_yaml(hyperparams))
    assert config.build("base", path, [], config.presets()) == hyperparams


@given(
    count=st.integers(), rate=st.floats(allow_nan=False), sizes=st.lists(st.integers(), max_size=5)
)
def test_what_a_section_holds_can_be_written_on_the_shell(
    count: int, rate: float, sizes: list[int]
) -> None:
    shell = [f"part.count={count}", f"part.rate={rate}", f"part.sizes={tuple(sizes)}"]
    expected = Section(count=count, rate=rate, sizes=tuple(sizes))
    assert config.build("p", None, shell, {"p": Knobs()}).part == expected
    stored = config.to_dict(Knobs(expected))
    assert config.from_dict(stored, Knobs) == Knobs(expected)


def test_an_older_checkpoint_takes_defaults_and_a_foreign_one_is_refused() -> None:
    stored = config.to_dict(TINY)
    del stored["transformer"]["guided_sigma"], stored["synthesis"]
    assert config.from_dict(stored, Hyperparams) == TINY
    stored["transformer"]["wings"], stored["feathers"] = 2, {"count": 3}
    with pytest.raises(ValueError, match=r"transformer\.wings, feathers"):
        config.from_dict(stored, Hyperparams)


def test_renamed_and_removed_knobs_of_older_checkpoints_are_translated() -> None:
    stored = {"section": {"old": 3, "gone": 0, "kept": 1}, "other": {"name": 2}}
    renamed = {"section.old": "section.new", "other.name": "section.moved"}
    removed = {"section.gone": 0}
    found = config.current_names(stored, renamed, removed)
    assert found == {"section": {"new": 3, "kept": 1, "moved": 2}, "other": {}}
    stored["section"]["gone"] = 1  # it did something: the knob stays, to be refused by name
    assert config.current_names(stored, renamed, removed)["section"]["gone"] == 1
    base = config.to_dict(Hyperparams())
    base["transformer"]["said_width"] = base["transformer"].pop("phoneme_times_width")
    assert config.from_dict(base, Hyperparams) == Hyperparams()


def test_what_a_checkpoint_is_too_old_to_know_is_what_it_did() -> None:
    """The transformers from before `history` could be false have one, whatever the default."""
    stored = config.to_dict(Hyperparams())
    assert not config.from_dict(stored, Hyperparams).transformer.history
    del stored["transformer"]["history"], stored["transformer"]["contour"]
    old = config.from_dict(stored, Hyperparams).transformer
    assert old.history and not old.contour


def test_steps_and_seed_are_flags_of_their_own() -> None:
    parser = argparse.ArgumentParser()
    config.add_run_arguments(parser, config.presets())
    flags = ["--data", "d", *TINY_FLAGS, "--steps", "9", "--set", "postnet.width=24"]
    arguments = parser.parse_args([*flags, "--seed", "5"])
    found = config.from_arguments(arguments, config.presets(), "postnet_training")
    assert (found.postnet_training.steps, found.postnet_training.seed) == (9, 5)
    assert found.postnet.width == 24
    assert found.transformer_training == TINY.transformer_training


def test_a_stranger_in_another_networks_section_is_no_reason_to_refuse() -> None:
    """A checkpoint is read by the sections it needs; the others may be of another version."""
    stored = config.to_dict(TINY)
    stored["transformer"]["forgotten"] = 1
    with pytest.raises(ValueError, match=r"transformer\.forgotten"):
        config.from_dict(stored, Hyperparams)
    with pytest.raises(ValueError, match=r"transformer\.forgotten"):
        config.from_dict(stored, Hyperparams, ("audio", "transformer"))
    assert config.from_dict(stored, Hyperparams, ("audio", "postnet")) == TINY


def test_a_superseded_knob_is_left_out() -> None:
    stored = config.to_dict(TINY)
    stored["synthesis"]["magnitude_power"] = 1.2
    assert config.from_dict(stored, Hyperparams) == TINY


@pytest.mark.parametrize(
    "text",
    [
        "- &a [x,x,x]\n- &b [*a,*a,*a]\n",
        "audio: {sample_rate: &a [*a]}\n",
        "[" * 20000,
        "{a: " * 5000,
        "audio: {sample_rate: .inf}\n",
        "audio: {sample_rate: " + "9" * 6000 + "}\n",
        "audio: {log_floor: " + "9" * 400 + "}\n",
    ],
)
def test_a_config_out_of_bounds_is_named_in_a_few_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml") as error:
        config.build("base", path, (), config.presets())
    assert len(str(error.value)) < 600
