"""The page in a real browser: no console message, drawn on demand, and what axe-core finds of its accessibility.

Skipped where there is no chromium; axe-core is looked for in the file that TOPKIN_AXE names and in node_modules.
"""

import json
import os
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from topkin.report import data, page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
AXE = Path(os.environ.get("TOPKIN_AXE", "node_modules/axe-core/axe.min.js"))
THEMES = {"dark": 0, "light": 1}
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium"),
    pytest.mark.parametrize("small_run", ["string"], indirect=True),
]

LOOK = """
const wait = (ms) => new Promise((ok) => setTimeout(ok, ms));
const told = (value) => {
  const e = document.createElement("pre");
  e.id = "told"; e.textContent = JSON.stringify(value); document.body.append(e);
};
const key = (on, key) => on.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
(async () => { try { told(await (async () => { %s })()); } catch (e) { told(String(e)); } })();
"""
STEPS = """
const box = document.getElementById("search"), hits = document.getElementById("hits"), found = {};
await wait(300);
box.focus(); box.value = "paper lantern"; box.dispatchEvent(new Event("input"));
found.hits = [...hits.children].map((o) => o.querySelector("bdi").textContent);
key(box, "ArrowDown"); key(box, "ArrowDown");
found.active = box.getAttribute("aria-activedescendant");
key(box, "Escape"); found.closed = hits.hidden;
box.dispatchEvent(new Event("input")); key(box, "Enter"); await wait(200);
found.item = document.querySelector("#found h3").textContent; found.focus = document.activeElement.textContent;
document.querySelector("#users article a").click(); await wait(200);
found.user = document.querySelector("#found h3").textContent;
found.rows = document.querySelectorAll("#found tbody tr").length;
location.hash = "#item=%%3Cimg%%20src%%3Dx%%3E"; await wait(200);
found.none = document.getElementById("found").textContent; found.images = document.images.length;
const map = document.getElementById("map-canvas"); map.focus(); key(map, "ArrowRight"); await wait(100);
found.says = document.getElementById("map-says").textContent;
const shown = (e) => getComputedStyle(e).display;
found.hidden = shown(document.getElementById("quality")) + shown(document.querySelector(".figures"));
location.hash = "#quality"; await wait(200);
found.view = document.getElementById("view-figures").checked;
found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
return found;
""".replace("%%", "%")


@pytest.fixture
def written(folders: dict[str, str], measured: dict[str, Any], tmp_path: Path) -> Path:
    made_at = data.gather(folders, measured, as_of=datetime(2024, 5, 1), run_id="r1")
    path = tmp_path / "report.html"
    path.write_text(page.render(made_at, []), encoding="utf-8")
    return path


def browse(
    path: Path, script: str = "", *, theme: str = "light", width: int = 1280, before: str = "", at: str = ""
) -> tuple[Any, list[str]]:
    """What a script after the page's own returns, without the page's policy then, and the console's messages."""
    if script:
        html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
        path = path.with_name("driven.html")
        path.write_text(html.replace("</body>", f"{before}<script>{LOOK % script}</script></body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=20000"]
    command += [
        f"--blink-settings=preferredColorScheme={THEMES[theme]}",
        f"--window-size={width},900",
        path.as_uri() + at,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    match = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(_unescaped(match[1])) if match else done.stdout, console


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_the_page_under_its_own_policy_says_nothing_to_the_console_and_draws(written: Path) -> None:
    html, console = browse(written)
    assert console == []
    assert 'class="scripted"' in html[: html.index("<head>")]
    assert html.count("<canvas") > 1  # the map's and the legend's


def test_a_link_to_a_section_of_all_figures_opens_them(written: Path) -> None:
    script = 'await wait(300); return document.getElementById("view-figures").checked;'
    assert browse(written, script, at="#quality") == (True, [])
    assert browse(written, script, at="#users") == (False, [])


def test_users_and_items_are_looked_up_by_keyboard(written: Path) -> None:
    console, lines = browse(written, STEPS, width=390)
    assert lines == []
    assert isinstance(console, dict), console
    assert sorted(console["hits"]) == ["BLUE PAPER LANTERN", "RED PAPER LANTERN"]
    assert (console["active"], console["closed"]) == ("hit-1", True)
    assert console["item"] == console["focus"] == f"Item {console['hits'][0]}"
    assert console["user"].startswith("Customer 1")
    assert console["rows"] >= 4
    assert console["none"] == "There is no item <img src=x> among those that the page holds."
    assert console["images"] == 0
    assert console["says"].endswith("Enter looks it up")
    assert console["hidden"] == "blocknone"  # a section lies in what is hidden in plain words
    assert console["view"] is True
    assert console["wide"] == 0


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm install axe-core, or TOPKIN_AXE=axe.min.js")
@pytest.mark.parametrize("theme", THEMES)
def test_axe_core_finds_nothing(written: Path, theme: str) -> None:
    script = """
    await wait(300); location.hash = "#item=a1"; await wait(200);
    const box = document.getElementById("search"); box.value = "paper"; box.dispatchEvent(new Event("input"));
    const found = { dark: matchMedia("(prefers-color-scheme: dark)").matches, passes: 0, violations: [] };
    for (const view of ["plain", "figures"]) {
      document.getElementById(`view-${view}`).click();
      for (const d of document.querySelectorAll("details")) d.open = true;
      const told = await axe.run(document, { resultTypes: ["violations"] });
      found.passes += told.passes.length;
      found.violations.push(...told.violations.map((v) => [view, v.id, v.nodes.map((n) => n.html)]));
    }
    return found;
    """
    console, _ = browse(written, script, theme=theme, before=f"<script>{AXE.read_text(encoding='utf-8')}</script>")
    assert console["violations"] == []
    assert console["dark"] is (theme == "dark")
    assert console["passes"] > 40
