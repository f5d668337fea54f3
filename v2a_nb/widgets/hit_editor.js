// The editor of hits: marks over a waveform, which are added, dragged, made louder and removed. Below it stands the
// player (player.js), whose playhead it shows. One plain ES module: no bundler, no network.
// From top to bottom: pure functions, style, the editor (edit), the same with a kernel (render).

export const STEP = 0.005; // seconds: nearer hits are one
export const SOFTEST = -24, LOUDEST = 12; // dB, of the slider

export const limit = (x, low, high) => Math.min(Math.max(x, low), high);

// The probability from which on a hit is followed.
export const leastProbability = (sensitivity) => Math.min(0.99, 1 - sensitivity);
const HAIR = 1e-9; // 1 - 0.7 is a little more than 0.3

export const follows = (hit, sensitivity) =>
  hit.origin === "user" || hit.probability >= leastProbability(sensitivity) - HAIR;

const onGrid = (time, duration) => {
  const last = Math.ceil(duration / STEP - 1e-6) - 1;
  return Number((limit(Math.round(time / STEP), 0, Math.max(0, last)) * STEP).toFixed(3));
};

const ordered = (hits) => [...hits].sort((a, b) => a.time_s - b.time_s);
const taken = (hits, time, but = null) =>
  hits.some((hit) => hit !== but && Math.abs(hit.time_s - time) < STEP - 1e-6);

// A hit that the user has decided on; where the model expected it is kept, so that its material stays.
const decided = (hit, changes) => {
  const source = hit.moved_from_s ?? (hit.origin === "model" ? hit.time_s : undefined);
  const made = { ...hit, probability: 1, origin: "user", ...changes };
  if (source !== undefined && source !== null) made.moved_from_s = source;
  return made;
};

// Each of these gives a new list, and the number of the hit that was changed; null where nothing can be done.
export function added(hits, time, duration) {
  const at = onGrid(time, duration);
  if (taken(hits, at)) return null;
  const made = { time_s: at, probability: 1, level_db: 0, origin: "user" };
  const list = ordered([...hits, made]);
  return { hits: list, index: list.indexOf(made) };
}

export function changed(hits, index, changes, duration) {
  const old = hits[index];
  if (!old) return null;
  const to = { ...changes };
  if ("time_s" in to) {
    to.time_s = onGrid(to.time_s, duration);
    if (taken(hits, to.time_s, old)) return null;
  }
  if ("level_db" in to) to.level_db = limit(to.level_db, SOFTEST, LOUDEST);
  const made = decided(old, to), list = ordered(hits.map((hit) => (hit === old ? made : hit)));
  return { hits: list, index: list.indexOf(made) };
}

export function removed(hits, index) {
  return hits[index] ? { hits: hits.filter((_, k) => k !== index), index: -1 } : null;
}

// The text of a file that --hits and Hits.load read.
export function fileText(hits) {
  return `{"hits_version": 1, "hits": [\n${hits.map((hit) => `  ${JSON.stringify(hit)}`).join(",\n")}\n]}\n`;
}

export const decibels = (db) => `${db < 0 ? "−" : "+"}${Math.abs(db).toFixed(db % 1 ? 1 : 0)} dB`;

// One hit in words.
export function words(hit, sensitivity) {
  const moved = hit.moved_from_s !== undefined && hit.moved_from_s !== null && hit.moved_from_s !== hit.time_s;
  const source = hit.origin === "model" ? `expected with ${Math.round(hit.probability * 100)} %`
    : moved ? `moved from ${hit.moved_from_s.toFixed(3)} s` : hit.moved_from_s != null ? "kept" : "added";
  const level = hit.level_db ? `, ${decibels(hit.level_db)}` : "";
  return `${hit.time_s.toFixed(3)} s, ${source}${level}${follows(hit, sensitivity) ? "" : ", doubtful: stays silent"}`;
}

// What a key does to a mark that has the focus.
export function markKey(key, shift) {
  const plain = {
    ArrowLeft: { by: shift ? -0.05 : -STEP }, ArrowRight: { by: shift ? 0.05 : STEP },
    ArrowUp: { louder: shift ? 6 : 1 }, ArrowDown: { louder: shift ? -6 : -1 },
    Delete: { remove: true }, Backspace: { remove: true }, x: { remove: true }, X: { remove: true },
    Enter: { keep: true },
  };
  return Object.hasOwn(plain, key) ? plain[key] : null;
}

// How tall a mark stands: a quarter of the lane at the softest, all of it at the loudest.
export const tall = (db) => 0.25 + 0.75 * limit((db - SOFTEST) / (LOUDEST - SOFTEST), 0, 1);

const EVERY = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60];
export const spacing = (duration, width) => EVERY.find((s) => (s / duration) * width >= 58) || 120;

const CSS = `
:host{display:block;color:inherit;font:14px/1.35 system-ui,sans-serif;margin:0 0 12px}
*{box-sizing:border-box}
[hidden]{display:none!important}
.all{--line:color-mix(in srgb,currentColor 30%,transparent);--model:#2457c5;--user:#c2410c;--head:#e8710a;--wave:#7f93b8}
.all.dark{--model:#8ab4f8;--user:#ffb27a;--head:#ff9d4d;--wave:#8796b5}
.row{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center;margin:0 0 8px}
.row label{display:inline-flex;gap:6px;align-items:center;white-space:nowrap}
button{font:inherit;color:inherit;background:transparent;padding:4px 12px;border:1px solid var(--line);border-radius:6px;cursor:pointer}
button:hover:not(:disabled){background:color-mix(in srgb,currentColor 10%,transparent)}
button:disabled{opacity:.45;cursor:default}
.main{background:#2457c5;border-color:#2457c5;color:#fff;font-weight:600}
.main:hover:not(:disabled){background:#1c469f}
small{opacity:.75}
input[type=range]{width:120px;margin:0;accent-color:#2457c5}
input[type=number]{font:inherit;color:inherit;background:transparent;border:1px solid var(--line);border-radius:6px;padding:2px 4px;width:6.2em}
:is(button,input,.lane):focus-visible{outline:3px solid var(--head);outline-offset:2px}
.stage{position:relative;padding:0 12px;user-select:none}
.lane{position:relative;height:132px;border:1px solid var(--line);border-radius:6px;cursor:copy;touch-action:none}
.lane canvas{position:absolute;inset:0;width:100%;height:100%;pointer-events:none}
.ruler{position:relative;height:22px;font-size:11px;cursor:pointer;touch-action:none}
.ruler span{position:absolute;top:5px;transform:translateX(-50%);white-space:nowrap;opacity:.8}
.ruler span::before{content:"";position:absolute;left:50%;top:-5px;height:5px;border-left:1px solid currentColor}
.play{position:absolute;top:0;bottom:0;width:0;border-left:2px solid var(--head);pointer-events:none;margin-left:-1px}
.mark{position:absolute;bottom:0;width:20px;margin-left:-10px;padding:0;border:0;border-radius:10px;background:none;cursor:grab;
 color:var(--model);touch-action:none}
.mark:hover:not(:disabled){background:none}
.mark.user{color:var(--user)}
.mark::before{content:"";position:absolute;left:9px;top:12px;bottom:0;border-left:2.5px solid currentColor}
.mark::after{content:"";position:absolute;left:3px;top:0;width:14px;height:14px;border-radius:50%;background:currentColor;
 border:2.5px solid currentColor}
.mark.doubt::before{border-left-style:dashed;border-left-width:2px}
.mark.doubt::after{background:Canvas;border-style:dashed;border-width:2px}
.mark:focus-visible{outline:none}
.mark:focus-visible::after{outline:3px solid var(--head);outline-offset:2px}
.mark.chosen::after{box-shadow:0 0 0 3px color-mix(in srgb,currentColor 35%,transparent)}
.mark.held{cursor:grabbing}
.about{min-height:2.3em;margin:4px 0 0}
.key{display:inline-flex;gap:4px 14px;flex-wrap:wrap;font-size:12px;opacity:.9}
.key i{display:inline-block;width:11px;height:11px;border-radius:50%;margin-right:5px;vertical-align:-1px;border:2px solid currentColor}
.said{font-size:13px}
.title{font-weight:600;margin:0 0 8px;text-align:start}
.said.bad{color:#c5221f;font-weight:600}
.dark .said.bad{color:#ff8a80}
details{font-size:12px}
summary{cursor:pointer;width:max-content}`;

const HELP = "Click, or Enter at the playhead: a new hit · drag a mark: move it · click below the line: go there. A mark that is chosen: ← → 5 ms " +
  "(with Shift 50 ms) · ↑ ↓ 1 dB louder, softer (with Shift 6 dB) · Del or X: remove · Enter: let a doubtful one sound. " +
  "Ctrl+Z: undo. The taller a mark, the louder.";

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // strings become text nodes
  return made;
}

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

// Levels over the lane, from the softest at the bottom to the loudest, the newest sound in front of the first one.
function drawLevels(canvas, waves, style) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  waves.forEach((wave, k) => {
    const front = k === waves.length - 1, x = (i) => ((i + 0.5) / wave.length) * width;
    g.beginPath();
    g.moveTo(0, height);
    wave.forEach((v, i) => g.lineTo(x(i), height * (1 - 0.9 * (v / 255))));
    g.lineTo(width, height);
    g.globalAlpha = front ? 0.55 : 0.18;
    g.fillStyle = front ? style.getPropertyValue("--wave") : style.color;
    g.fill();
  });
}

// Put the editor into `root`, before the player. `data`: duration, hits, sensitivity, waves, live, name.
// `tell(state)` is called after each change, `regenerate()` by the button.
export function edit(root, data, { tell = () => {}, regenerate = null } = {}) {
  if (root.dataset.mounted) return null;
  root.dataset.mounted = "yes";
  const { duration } = data;
  let hits = data.hits, sensitivity = data.sensitivity, chosen = -1, drag = null, past = [], waves = [], now = 0;
  const first = { hits, sensitivity };
  const button = (text, attributes) => node("button", { type: "button", ...attributes }, text);
  const make = button("Make the sound", { class: "main", title: "the sound of these hits" });
  const undo = button("Undo", { "aria-keyshortcuts": "Control+Z" }), reset = button("Reset");
  const save = button("Save hits", { title: "a file for Hits.load and generate --hits" });
  const range = node("input", { type: "range", min: "0", max: "1", step: "0.01", "aria-label": "sensitivity" });
  const count = node("span", { class: "count", "aria-live": "polite" });
  const canvas = node("canvas", { "aria-hidden": "true" });
  const lane = node("div", { class: "lane", role: "group", tabindex: "0", "aria-label": `hits of ${data.name}; Enter adds one at the playhead` }, canvas);
  const ruler = node("div", { class: "ruler", "aria-hidden": "true" }), head = node("div", { class: "play" });
  const time = node("input", { type: "number", step: String(STEP), min: "0", max: String(duration), "aria-label": "time of the chosen hit, seconds" });
  const level = node("input", { type: "range", min: String(SOFTEST), max: String(LOUDEST), step: "1", "aria-label": "level of the chosen hit, dB" });
  const loud = node("span"), what = node("span"), hint = node("span", {}, node("small", {}, "Click on the curve to add a hit, or choose one."));
  const keep = button("Let it sound", { "aria-keyshortcuts": "Enter" }), drop = button("Remove", { "aria-keyshortcuts": "Delete" });
  const inspector = node("span", { class: "row", style: "margin:0" }, what, node("label", {}, "at", time, "s"),
    node("label", {}, "level", level, loud), keep, drop);
  const said = node("div", { class: "said", role: "status", "aria-live": "polite" });
  const dot = (color, dashed) => node("i", { style: `color:var(--${color});${dashed ? "border-style:dashed" : `background:var(--${color})`}` });
  const key = node("span", { class: "key" },
    node("span", {}, dot("model"), "expected (paler: less sure)"), node("span", {}, dot("model", true), "doubtful: stays silent"),
    node("span", {}, dot("user"), "yours"));
  const all = node("div", { class: "all" }, node("div", { class: "title", dir: "auto" }, data.title),
    node("div", { class: "row" }, ...(regenerate ? [make] : []), undo, reset, save,
      node("label", { title: "which of the expected hits sound" }, node("small", {}, "only sure"), range, node("small", {}, "every doubt")), count),
    node("div", { class: "stage" }, lane, ruler), node("div", { class: "row about" }, hint, inspector), said,
    node("div", { class: "row", style: "margin:0" }, key, node("details", {}, node("summary", {}, "Keys"), node("div", {}, HELP))));
  lane.append(head);
  const host = node("div", { role: "group", "aria-label": `editor of hits: ${data.name}`, "data-lm-suppress-shortcuts": "true" });
  host.attachShadow({ mode: "open" }).append(node("style", {}, CSS), all);
  root.querySelectorAll("[data-plain]").forEach((e) => (e.hidden = true));
  root.prepend(host);

  const share = (t) => `${(limit(t / duration, 0, 1) * 100).toFixed(4)}%`;
  const timeAt = (event) => {
    const box = lane.getBoundingClientRect();
    return limit((event.clientX - box.left) / Math.max(1, box.width), 0, 1) * duration;
  };
  const player = () => root.querySelector("figure");
  const unname = () => root.querySelectorAll("figcaption").forEach((e) => (e.hidden = true)); // the title stands above
  const go = (t) => player() && player().dispatchEvent(new CustomEvent("v2a-seek", { detail: t }));

  function paint() {
    const style = getComputedStyle(all), [r, g, b] = (style.color.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
    all.classList.toggle("dark", 0.299 * r + 0.587 * g + 0.114 * b > 128);
    drawLevels(canvas, waves, getComputedStyle(all));
    const step = spacing(duration, lane.clientWidth || 600), labels = [];
    for (let k = 0; k * step <= duration + 1e-9; k++) {
      labels.push(node("span", { style: `left:${share(k * step)}` }, `${Number((k * step).toFixed(2))} s`));
    }
    ruler.replaceChildren(...labels);
  }

  function show(focus = false) {
    lane.querySelectorAll(".mark").forEach((mark) => mark.remove());
    const marks = hits.map((hit, k) => {
      const sounds = follows(hit, sensitivity), opacity = hit.origin === "user" ? 1 : 0.4 + 0.6 * hit.probability;
      const mark = button("", {
        class: `mark ${hit.origin} ${sounds ? "" : "doubt"} ${k === chosen ? "chosen" : ""}`, "aria-pressed": String(k === chosen),
        "aria-label": `hit at ${words(hit, sensitivity)}`, title: words(hit, sensitivity), "data-hit": String(k),
        style: `left:${share(hit.time_s)};height:${(100 * tall(hit.level_db || 0)).toFixed(1)}%;opacity:${(sounds ? opacity : 0.75).toFixed(2)}`,
      });
      return mark;
    });
    lane.append(...marks);
    if (focus) (marks[chosen] || lane).focus({ preventScroll: true });
    const hit = hits[chosen], sounding = hits.filter((each) => follows(each, sensitivity)).length;
    range.value = String(sensitivity);
    range.setAttribute("aria-valuetext", `hits of at least ${Math.round(leastProbability(sensitivity) * 100)} percent sound`);
    count.textContent = `${sounding} of ${hits.length} hits sound`;
    inspector.hidden = !hit;
    hint.hidden = Boolean(hit);
    if (hit) {
      what.textContent = words(hit, sensitivity).replace(/^[\d.]+ s, /, "").replace(/, [+−].* dB/, "");
      if (host.shadowRoot.activeElement !== time) time.value = hit.time_s.toFixed(3);
      level.value = String(hit.level_db || 0);
      loud.textContent = decibels(hit.level_db || 0);
      keep.hidden = hit.origin === "user";
    }
    undo.disabled = !past.length;
    reset.disabled = hits === first.hits && sensitivity === first.sensitivity;
  }

  // A change to the list; `merge` names changes of one drag, which are undone together.
  function put(next, { merge = null, focus = false } = {}) {
    if (!next) return false;
    if (!merge || !past.length || past.at(-1).merge !== merge) past.push({ hits, sensitivity, chosen, merge });
    past = past.slice(-200);
    hits = next.hits ?? hits;
    sensitivity = next.sensitivity ?? sensitivity;
    chosen = next.index ?? chosen;
    show(focus);
    if (regenerate) say("changed; not heard yet");
    tell({ hits, sensitivity });
    return true;
  }

  function back() {
    const last = past.pop();
    if (!last) return;
    ({ hits, sensitivity, chosen } = last);
    show(lane.matches(":focus-within")); // a mark that had the focus is another element now
    tell({ hits, sensitivity });
  }

  const say = (text, bad = false) => { said.textContent = text; said.classList.toggle("bad", bad); };
  const change = (changes, how) => put(changed(hits, chosen, changes, duration), how);
  const remove = () => put(removed(hits, chosen));

  lane.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    const mark = event.target.closest?.(".mark");
    drag = { x: event.clientX, moved: false, mark: Boolean(mark), merge: {} };
    if (mark) {
      chosen = Number(mark.dataset.hit);
      drag.away = hits[chosen].time_s - timeAt(event);
      show(true);
    }
    lane.setPointerCapture(event.pointerId);
  });
  lane.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (Math.abs(event.clientX - drag.x) > 3) drag.moved = true;
    if (drag.mark && drag.moved) {
      lane.classList.add("held");
      change({ time_s: timeAt(event) + drag.away }, { merge: drag.merge, focus: true });
    }
  });
  lane.addEventListener("pointerup", (event) => {
    if (drag && !drag.mark && !drag.moved) {
      const t = timeAt(event);
      if (!put(added(hits, t, duration), { focus: true })) say("there is a hit already");
    }
    drag = null;
    lane.classList.remove("held");
  });
  lane.addEventListener("pointercancel", () => { drag = null; });
  ruler.addEventListener("pointerdown", (event) => { if (!event.button) { event.preventDefault(); go(timeAt(event)); } });
  lane.addEventListener("focusin", (event) => {
    const mark = event.target.closest?.(".mark");
    if (!mark || drag || Number(mark.dataset.hit) === chosen) return;
    chosen = Number(mark.dataset.hit); // with Tab
    show(true);
  });
  all.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && event.target !== time) {
      event.preventDefault();
      event.stopPropagation();
      back();
      return;
    }
    if (event.target === lane && event.key === "Enter") {
      event.preventDefault();
      if (!put(added(hits, now, duration), { focus: true })) say("there is a hit already");
      return;
    }
    const does = event.target.closest?.(".mark") && !event.ctrlKey && !event.metaKey && !event.altKey
      ? markKey(event.key, event.shiftKey) : null;
    if (!does || !hits[chosen]) return;
    event.preventDefault();
    event.stopPropagation();
    const hit = hits[chosen];
    if (does.remove) {
      const next = Math.min(chosen, hits.length - 2); // the keyboard goes on from the neighbour
      put({ ...removed(hits, chosen), index: next }, { focus: true });
    }
    else if (does.keep) change({}, { focus: true });
    else if (does.by) change({ time_s: hit.time_s + does.by }, { merge: `by ${chosen}`, focus: true });
    else change({ level_db: (hit.level_db || 0) + does.louder }, { merge: `level ${chosen}`, focus: true });
  });
  time.addEventListener("change", () => {
    if (!Number.isFinite(time.valueAsNumber) || !change({ time_s: time.valueAsNumber })) say("a hit cannot be there", true);
    time.value = hits[chosen] ? hits[chosen].time_s.toFixed(3) : "";
  });
  level.addEventListener("input", () => change({ level_db: Number(level.value) }, { merge: `level ${chosen}` }));
  range.addEventListener("input", () => put({ sensitivity: Number(range.value) }, { merge: "sensitivity" }));
  keep.addEventListener("click", () => change({}, { focus: true }));
  drop.addEventListener("click", remove);
  undo.addEventListener("click", back);
  reset.addEventListener("click", () => put({ ...first, index: -1 }));
  make.addEventListener("click", () => regenerate());
  save.addEventListener("click", () => {
    const sounding = hits.filter((hit) => follows(hit, sensitivity));
    const address = URL.createObjectURL(new Blob([fileText(sounding)], { type: "application/json" }));
    node("a", { href: address, download: `${data.name}.hits.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
    say(`${sounding.length} hits saved: v2a-nb generate VIDEO --hits FILE --out made`);
  });
  root.addEventListener("v2a-time", (event) => {
    now = event.detail;
    head.style.left = share(now);
  });
  const resized = new ResizeObserver(paint);
  resized.observe(lane);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", paint);

  const api = {
    host, say,
    set(next) { // from Python
      hits = next.hits ?? hits;
      sensitivity = next.sensitivity ?? sensitivity;
      if (chosen >= hits.length) chosen = -1;
      show();
    },
    busy(on) { make.disabled = on; make.textContent = on ? "Making …" : "Make the sound"; },
    hear(list) { waves = list.map(bytes); unname(); paint(); },
    remove() { resized.disconnect(); scheme.removeEventListener("change", paint); host.remove(); },
  };
  api.hear(data.waves);
  show();
  return api;
}

// --- the same as a widget (an anywidget front-end module); `player` is player.js ---------------------

function render({ model, el }) {
  const root = node("div", { style: "max-width:1000px" }), below = node("div");
  root.append(below);
  el.append(root);
  let cleanup = () => {}, sent = "";
  const told = (state) => JSON.stringify([state.hits, state.sensitivity]);
  const editor = edit(root, { ...model.get("_data"), hits: model.get("_hits"), sensitivity: model.get("_sensitivity") }, {
    tell(state) {
      sent = told(state);
      model.set("_hits", state.hits);
      model.set("_sensitivity", state.sensitivity);
      model.save_changes();
    },
    regenerate() {
      editor.busy(true);
      editor.say("making the sound …");
      model.set("_asked", model.get("_asked") + 1);
      model.save_changes();
    },
  });
  const values = { _payload: () => model.get("_payload"), _media: () => model.get("_media"), _key: () => "", playing: () => false };
  const show = () => {
    cleanup();
    below.replaceChildren();
    const still = { get: (name) => values[name]?.(), set() {}, save_changes() {}, on() {}, off() {} };
    cleanup = player.render({ model: still, el: below });
    editor.hear(model.get("_data").waves);
  };
  const status = () => {
    const { text, bad, busy } = model.get("_status");
    editor.busy(busy);
    editor.say(text, bad);
  };
  const set = () => {
    const state = { hits: model.get("_hits"), sensitivity: model.get("_sensitivity") };
    if (told(state) !== sent) editor.set(state);
  };
  const heard = [["change:_payload", show], ["change:_status", status], ["change:_hits", set], ["change:_sensitivity", set]];
  heard.forEach(([name, run]) => model.on(name, run));
  show();
  status();
  return () => {
    heard.forEach(([name, run]) => model.off(name, run));
    cleanup();
    editor.remove();
    root.remove();
  };
}

export default { render };
