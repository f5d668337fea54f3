// The picker of a box. Run by tests/widgets/test_explore_hiding.py, or: node --test tests/js/box_picker.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const source = await readFile(new URL("../../v2a_nb/widgets/box_picker.js", import.meta.url));
const picker = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const near = (a, b) => a.forEach((value, k) => assert.ok(Math.abs(value - b[k]) < 1e-9, `${a} is not ${b}`));

test("a drag in any direction is the same box, cut at the picture's edge; a click is none", () => {
  near(picker.boxBetween([0.6, 0.2], [0.1, 0.5]), [0.1, 0.2, 0.6, 0.5]);
  near(picker.boxBetween([-0.3, 0.2], [0.4, 1.7]), [0, 0.2, 0.4, 1]);
  assert.equal(picker.boxBetween([0.5, 0.5], [0.51, 0.9]), null);
});

test("keys move the box within the picture, and change its size with shift", () => {
  near(picker.boxAfter([0.1, 0.2, 0.4, 0.5], "ArrowRight", false), [0.15, 0.2, 0.45, 0.5]);
  near(picker.boxAfter([0.02, 0.2, 0.4, 0.5], "ArrowLeft", false), [0, 0.2, 0.38, 0.5]);
  near(picker.boxAfter([0.1, 0.2, 0.4, 0.5], "ArrowDown", true), [0.1, 0.2, 0.4, 0.55]);
  near(picker.boxAfter([0.1, 0.2, 0.14, 0.5], "ArrowLeft", true), [0.1, 0.2, 0.13, 0.5]);
  assert.equal(picker.boxAfter([0, 0, 1, 1], "a", false), null);
});

// As much of a page as the picker touches.
function element() {
  const made = {
    style: {}, heard: {}, attributes: {}, children: [],
    setAttribute(name, value) { made.attributes[name] = value; },
    addEventListener(name, answer) { made.heard[name] = answer; },
    append(...more) { made.children.push(...more); },
    getBoundingClientRect: () => ({ left: 100, top: 50, width: 200, height: 100 }),
  };
  return made;
}

test("one drag is one change, sent when the button is let go", () => {
  const values = { value: [0.3, 0.3, 0.7, 0.9], picture: "data:,", alt: "a frame" };
  let saved = 0;
  const model = {
    get: (name) => values[name], set: (name, value) => { values[name] = value; },
    save_changes: () => { saved += 1; }, on() {}, off() {},
  };
  const el = { ...element(), ownerDocument: { createElement: element } };
  picker.default.render({ model, el });
  const root = el.children[0];
  root.heard.pointerdown({ clientX: 120, clientY: 60 });
  root.heard.pointermove({ clientX: 180, clientY: 90 });
  assert.equal(saved, 0);
  assert.equal(root.children[1].style.left, "10%");
  root.heard.pointerup({ clientX: 220, clientY: 100 });
  assert.equal(saved, 1);
  near(values.value, [0.1, 0.1, 0.6, 0.5]);
  assert.match(root.attributes["aria-label"], /10 %, 10 %, 60 %, 50 %/);
  root.heard.pointerdown({ clientX: 120, clientY: 60 });
  root.heard.pointerup({ clientX: 120, clientY: 60 });
  assert.equal(saved, 1, "a click changes nothing");
  root.heard.keydown({ key: "ArrowRight", shiftKey: false, preventDefault() {} });
  near(values.value, [0.15, 0.1, 0.65, 0.5]);
});
