"""The page of `longspan search query --show`, without its answers: style and script within."""

from __future__ import annotations

from typing import Final

PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>longspan search</title>
<style>
:root { --ground: #fff; --ink: #1a1a1a; --dim: #666; --line: #ddd; --hot: 214, 68, 0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181c; --ink: #e8e8e8; --dim: #9a9a9a; --line: #3a3d44; --hot: 255, 140, 40; }
}
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto;
  max-width: 90rem; padding: 0 1rem; }
h2 { margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: .3rem; margin-bottom: 1rem; }
.chips button { background: none; border: 1px solid var(--line); border-radius: .4rem; color: inherit; cursor: pointer;
  font: inherit; padding: .1rem .5rem; white-space: pre; }
.chips button[aria-pressed="true"] { background: rgb(var(--hot)); border-color: rgb(var(--hot)); color: #000; }
.hits { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); }
figure { border: 1px solid var(--line); border-radius: .5rem; margin: 0; padding: .7rem; }
figcaption { margin-bottom: .5rem; overflow-wrap: anywhere; }
.rank, .where { font-weight: 600; }
.score { color: var(--dim); font-variant-numeric: tabular-nums; }
.fields, .best, .none { color: var(--dim); }
.best { margin: .4rem 0 0; min-height: 1.5em; }
.page { line-height: 0; position: relative; }
.page img { height: auto; width: 100%; }
.page canvas { height: 100%; image-rendering: pixelated; left: 0; position: absolute; top: 0; width: 100%; }
.text { margin: 0; max-height: 24rem; overflow: auto; overflow-wrap: anywhere; white-space: pre-wrap; }
mark { background: none; border-radius: .2rem; color: inherit; }
</style>
</head>
<body>
<!-- answers -->
<script>
"use strict";
// A byte b is a similarity of (b - 128) / 127. One token's are shown as they are; of all tokens, how many match each
// place best: the score is the sum of the best matches.
const read = (script) => {
  const heat = JSON.parse(script.textContent);
  const text = atob(heat.bytes);
  heat.values = Float32Array.from(text, (c) => (c.charCodeAt(0) - 128) / 127);
  return heat;
};
const shown = (heat, token) => {
  const values = new Float32Array(heat.places);
  for (let t = 0; t < heat.tokens; ++t) {
    const row = heat.values.subarray(t * heat.places, (t + 1) * heat.places);
    if (t === token) values.set(row);
    if (token < 0 && heat.places) values[row.indexOf(Math.max(...row))] += 1;
  }
  return values;
};
const colour = () => getComputedStyle(document.documentElement).getPropertyValue("--hot");
const scaled = (values) => {  // the strongest third stands out; what is all alike stays pale
  const sorted = Float32Array.from(values).sort(), top = sorted[sorted.length - 1];
  const low = sorted[Math.floor(sorted.length * 2 / 3)];
  return values.map((v) => top > low ? Math.max(0, (v - low) / (top - low)) : 0);
};
const draw = (figure, token) => {
  const heat = figure.heat ??= read(figure.querySelector("script.heat"));
  const values = shown(heat, token), alphas = scaled(values), best = values.indexOf(Math.max(...values));
  const say = figure.querySelector(".best");
  say.textContent = "";
  if (!heat.places) return;
  const strength = token < 0 ? `${values[best]} of ${heat.tokens} tokens` : values[best].toFixed(2);
  if (heat.grid) {
    const [rows, columns] = heat.grid, page = figure.querySelector(".page");
    say.textContent = `best at row ${Math.floor(best / columns) + 1} of ${rows}, ` +
      `column ${best % columns + 1} of ${columns}: ${strength}`;
    if (!page) return;
    let canvas = page.querySelector("canvas");
    if (!canvas) page.append(canvas = document.createElement("canvas"));
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    alphas.forEach((alpha, place) => {
      context.fillStyle = `rgba(${colour()}, ${0.75 * alpha})`;
      context.fillRect(place % columns, Math.floor(place / columns), 1, 1);
    });
    return;
  }
  const marks = figure.querySelectorAll("mark");
  marks.forEach((mark, place) => { mark.style.background = `rgba(${colour()}, ${0.6 * alphas[place]})`; });
  say.textContent = `best at \\u201c${marks[best].textContent.trim()}\\u201d: ${strength}`;
};
document.querySelectorAll("section").forEach((section) => {
  const figures = [...section.querySelectorAll("figure")].filter((figure) => figure.querySelector("script.heat"));
  const buttons = [...section.querySelectorAll(".chips button")];
  const choose = (button) => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    figures.forEach((figure) => draw(figure, Number(button.dataset.token)));
  };
  buttons.forEach((button) => button.addEventListener("click", () => choose(button)));
  const asked = buttons[Number(new URLSearchParams(location.hash.slice(1)).get("token") ?? 0)];
  if (asked) choose(asked);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  document.querySelectorAll('.chips button[aria-pressed="true"]').forEach((button) => button.click());
});
</script>
</body>
</html>
"""
