"""Measure resident memory over many renderings of the page's server, at tiny size.

    python tests/web/measure_memory.py 50

Prints megabytes after each plan with its rendering, pictures included.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]


def resident() -> float:
    """Return the resident memory of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


class Measurement:
    """A plugin of pytest that runs one test: the fixtures are those of the other tests."""

    def __init__(self, count: int) -> None:
        self.count = count

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Pass the number of renderings to the test below."""
        if "number_of_renderings" in metafunc.fixturenames:
            metafunc.parametrize("number_of_renderings", [self.count])


def test_memory(serve: Callable, tmp_path: Path, number_of_renderings: int) -> None:
    """Plan and sing again and again, as one visitor."""
    client = serve(most_takes=3)
    wav, rate = soundfile.read(ROOT / "examples" / "evening-sun.ogg", frames=6 * 22050)
    soundfile.write(tmp_path / "song.wav", wav, rate)
    client.put("/api/accompaniment", tmp_path / "song.wav")
    for seed in range(number_of_renderings):
        client.post("/api/plan", lyrics="come home to me", seed=seed)
        client.post("/api/sing", seed=seed)
        assert client.finished()["job"]["state"] == "done"
        print(f"{seed + 1}: {resident():.0f} MB", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # before tests/, whose folders have the rooms' names
    with tempfile.TemporaryDirectory() as cache:
        arguments = [__file__, "-q", "-s", "-o", f"cache_dir={cache}", "-o", "python_files=*.py"]
        sys.exit(pytest.main(arguments, plugins=[Measurement(int(sys.argv[1]))]))
