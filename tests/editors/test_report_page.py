"""The report's page in a real Chromium, at a phone's and a desktop's width, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.server.cli import main
from tests.editors.vscode_programs import CACHE, NODE, ROOT, run
from tests.server.report.rich import make_rich_store

AXE = CACHE / "driver" / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = ROOT / ".cache" / "pictures"

pytestmark = pytest.mark.vscode


@pytest.mark.timeout(120)
def test_the_page_is_drawn_whole_and_no_request_leaves_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = [path for path in (NODE, AXE) if not path.exists()]
    if missing:
        pytest.fail(f"{missing[0]} is not there: run make test-editors", pytrace=False)
    PICTURES.mkdir(parents=True, exist_ok=True)
    make_rich_store(tmp_path)
    page = tmp_path / "page.html"
    assert main(["report", "--state-dir", str(tmp_path), "--html", str(page), "--compare", "checkpoint"]) == 0
    capsys.readouterr()
    script = Path(__file__).with_name("report_page.mjs")
    ended = run([str(script), str(page), str(PICTURES)], tmp_path, 110)
    assert ended.returncode == 0, ended.stderr
