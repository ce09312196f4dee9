"""The README's Python example runs as it stands there."""

import re
from pathlib import Path


def test_example_runs(capsys) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len([line for line in example.splitlines() if line.strip()]) < 10
    exec(compile(example, "README.md", "exec"), {})
    assert "(16, 16)" in capsys.readouterr().out
