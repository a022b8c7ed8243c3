"""The option --step, wherever a network's weights are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

import evaluate
import synthesis
from utils.flags import command_line, step_option, take_step


def test_a_step_becomes_part_of_the_reference() -> None:
    parser = command_line("a script")
    parser.add_argument("--start-from", type=Path)
    step_option(parser, "--start-from")
    for given, expected in (
        ([], None),
        (["--start-from", "a"], "a"),
        (["--start-from", "save/x/a", "--step", "30"], "save/x/a@30"),
        (["--start-from", "save/x/a/best.pt", "--step", "0"], "save/x/a/best.pt@0"),
    ):
        arguments = parser.parse_args(given)
        take_step(arguments, "--start-from")
        assert arguments.start_from == (expected and Path(expected))
    with pytest.raises(ValueError, match="--step 2 picks a step of --start-from: give"):
        take_step(parser.parse_args(["--step", "2"]), "--start-from")


@pytest.mark.parametrize(("command", "flag"), evaluate.CHOSEN.items())
def test_every_evaluation_of_a_network_takes_a_step(
    command: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [command, "--data", "x", "--feature-dir", str(tmp_path), flag, str(tmp_path / "run")]
    parsed = evaluate.evaluation_parser().parse_args([*argv, "--step", "12"])
    assert parsed.step == 12
    assert evaluate.main([*argv, "--step", "12"]) == 2
    assert capsys.readouterr().err


def test_steps_of_the_inpainter_are_another_flag() -> None:
    argv = ["--lyrics", "oh", "--checkpoint", "mine", "--steps", "8", "--step", "4"]
    arguments = synthesis.parse_arguments(argv)
    assert (arguments.steps, arguments.checkpoint) == ("8", Path("mine@4"))
