// The slider over cards. Run by tests/test_explore_ambience.py, or: node --test tests/js/slider.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const source = await readFile(new URL("../../v2a_nb/widgets/slider.js", import.meta.url));
const slider = await import(`data:text/javascript;base64,${source.toString("base64")}`);

test("a value stands for a card, whatever it is", () => {
  assert.equal(slider.cardAt("2", 4), 2);
  assert.equal(slider.cardAt(9, 4), 3);
  assert.equal(slider.cardAt(-1, 4), 0);
  assert.equal(slider.cardAt("nothing", 4), 0);
});

test("a sound goes on where the last one was, and begins anew where that is over", () => {
  assert.equal(slider.goOnAt(1.2, 3), 1.2);
  assert.equal(slider.goOnAt(2.99, 3), 0);
  assert.equal(slider.goOnAt(1.2, NaN), 0);
});

// As much of a page as the slider touches.
function element(tag, attributes = {}) {
  const made = {
    tag, dataset: {}, style: {}, hidden: false, children: [], heard: {}, attributes,
    setAttribute(name, value) { attributes[name] = value; },
    addEventListener(name, answer) { made.heard[name] = answer; },
    append(...more) { made.children.push(...more); },
  };
  return made;
}

function page(levels) {
  const audios = levels.map(() => ({
    paused: true, currentTime: 0, duration: 3,
    pause() { this.paused = true; },
    play() { this.paused = false; return Promise.resolve(); },
  }));
  const cards = levels.map((level, k) => ({ ...element("div"), dataset: { card: level }, querySelector: () => audios[k] }));
  const removed = [];
  const words = levels.map(() => ({ remove() { removed.push(this); } }));
  const box = { ...element("div"), before(bar) { box.bar = bar; } };
  const root = {
    ...element("div"), dataset: { name: "Level", first: "1" },
    ownerDocument: { createElement: (tag) => element(tag) },
    querySelectorAll: (what) => (what === "[data-card]" ? cards : words),
    querySelector: () => box,
  };
  return { root, cards, audios, box, removed };
}

test("one card is shown at a time, named, and what plays goes on", () => {
  const { root, cards, audios, box, removed } = page(["-70 dBFS", "-55 dBFS", "-40 dBFS"]);
  slider.mount(root);
  const [line, range] = box.bar.children;
  const said = line.children[1];
  assert.deepEqual(cards.map((c) => c.hidden), [true, false, true]);
  assert.equal(said.textContent, "-55 dBFS");
  assert.equal(removed.length, 3, "names that the slider says now");
  assert.equal(root.dataset.mounted, "");
  range.value = "2";
  range.heard.input();
  assert.deepEqual(cards.map((c) => c.hidden), [true, true, false]);
  assert.ok(audios.every((a) => a.paused), "nothing starts by itself");
  audios[2].paused = false;
  audios[2].currentTime = 1.5;
  range.value = "0";
  range.heard.input();
  assert.deepEqual([audios[2].paused, audios[0].paused, audios[0].currentTime], [true, false, 1.5]);
  assert.equal(range.attributes["aria-valuetext"], "-70 dBFS");
});
