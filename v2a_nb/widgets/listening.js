// The screen of a blind listening test: a picture, sounds A, B, C ... that switch in place, and questions.
// One plain ES module: no bundler, no network. It knows letters only; which system is which letter stays elsewhere.
// No waveform, level or length is shown, so that ears answer and not eyes.

export const LETTERS = "ABCDEFGHI";
export const COLUMNS = ["test", "listener", "trial", "question", "candidate", "answer", "seconds", "time"];

// Which key does what; null leaves the key to the page.
export function command(key, count) {
  if (key === " ") return { do: "toggle" };
  if (key === "Enter") return { do: "confirm" };
  if (key.length !== 1) return null;
  const letter = LETTERS.indexOf(key.toUpperCase());
  if (letter >= 0 && letter < count) return { do: "hear", index: letter };
  return key >= "0" && key <= "9" ? { do: "digit", digit: Number(key) } : null;
}

// Digits typed one after the other: "7", "75", "100"; what cannot be 1 to 100 begins anew. 0: no number yet.
export function typed(before, digit) {
  const joined = before * 10 + digit;
  return joined <= 100 ? joined : digit;
}

// One letter, or several in their order: choosing again takes it out where several are allowed.
export function chosen(before, letter, several) {
  if (!several) return letter;
  const set = before.includes(letter) ? before.replace(letter, "") : before + letter;
  return [...set].sort().join("");
}

// What a trial needs, in the order of asking: [question, candidate]; no candidate where one is to be chosen.
export function wanted(kind, questions, count) {
  const letters = kind === "rate" ? [...LETTERS].slice(0, count) : [""];
  return letters.flatMap((letter) => questions.map((q) => [q, letter]));
}

// How the picture follows the clock; late is positive, seconds.
export function follow(late, playing) {
  if (!playing) return { seek: Math.abs(late) > 0.01, rate: 1 };
  if (Math.abs(late) > 0.2) return { seek: true, rate: 1 };
  return { seek: false, rate: Math.abs(late) > 0.02 ? Math.min(Math.max(1 + 2 * late, 0.75), 1.25) : 1 };
}

const field = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));

// Records of trials, as the experimenter's analysis reads them.
export function csv(spec, records) {
  const rows = records.flatMap((r) =>
    r.answers.map((a) => [spec.test, spec.listener, r.trial, ...a, Number(r.seconds).toFixed(1), r.time]));
  return [COLUMNS, ...rows].map((row) => row.map(field).join(",") + "\n").join("");
}

// A name that every file system takes.
export const fileName = (name) => `answers-${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "listener"}.csv`;

export const list = (letters) => (letters.length > 1 ? `${letters.slice(0, -1).join(", ")} and ${letters.at(-1)}` : letters.join(""));

const STYLE = `
:host{display:block;color:inherit;font:15px/1.45 system-ui,sans-serif}
*{box-sizing:border-box}
[hidden]{display:none!important}
.all{--line:color-mix(in srgb,currentColor 35%,transparent);--faint:color-mix(in srgb,currentColor 8%,transparent);--mark:color-mix(in srgb,currentColor 20%,#3f74e8);max-width:960px}
.all:focus{outline:none}
.all:focus-visible{outline:3px solid #e8710a;outline-offset:6px;border-radius:4px}
h2{font-size:1.15em;margin:0 0 4px}
.stage{display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start;margin:0 0 14px}
video{display:block;flex:1 1 240px;max-width:320px;max-height:320px;border-radius:6px;background:#000}
.controls{flex:3 1 320px;min-width:min(100%,280px)}
.row{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:0 0 10px}
button{font:inherit;color:inherit;background:transparent;padding:6px 14px;border:1px solid var(--line);border-radius:6px;cursor:pointer}
button:hover{background:var(--faint)}
.sound{min-width:4.2em;font-weight:600;font-size:1.1em}
.sound[aria-pressed=true],.go{background:#2457c5;border-color:#2457c5;color:#fff}
.sound[aria-pressed=true]:hover,.go:hover{background:#1d469e}
.go{font-weight:600}
.play{min-width:5.4em}
.clock,.done{width:100%;height:6px;border-radius:3px;background:color-mix(in srgb,currentColor 16%,transparent);overflow:hidden;margin:0 0 10px}
.done{margin:0 0 14px}
.clock i,.done i{display:block;height:100%;background:#e8710a;width:0}
.done i{background:#2457c5}
fieldset{border:1px solid var(--line);border-radius:8px;margin:0 0 12px;padding:8px 14px 10px;min-width:0}
fieldset.now{border:2px solid var(--mark);padding:7px 13px 9px}
legend{padding:0 6px;font-weight:600}
.choice{display:inline-flex;gap:6px;align-items:center;margin-inline-end:8px;cursor:pointer;padding:4px 10px;border-radius:6px}
.choice:hover{background:var(--faint)}
input{accent-color:#2457c5;margin:0}
input[type=radio],input[type=checkbox]{width:18px;height:18px}
.grid{display:grid;gap:2px 18px;grid-template-columns:2.2em repeat(var(--n),minmax(110px,1fr));align-items:center;margin:0 0 12px}
.grid>.head{font-weight:600;font-size:.92em;align-self:end}
.grid>b{text-align:center;border-radius:6px;padding:4px 0}
.grid>b.now{background:#2457c5;color:#fff}
.cell{display:flex;gap:8px;align-items:center;padding:5px 4px;border-radius:6px;border:1px solid transparent}
.cell.now{border-color:var(--mark)}
.cell input{flex:1 1 60px;min-width:40px}
.cell.unset input{accent-color:#8f8f8f}
.cell output{min-width:2em;text-align:end;font-variant-numeric:tabular-nums}
@media (max-width:640px){.grid{grid-template-columns:2.2em 1fr}.grid>.head,.grid>.corner{display:none}.cell::before{content:attr(data-name);flex:0 0 6.5em;font-size:.9em}.grid>b{grid-row:span var(--n);align-self:start;margin-top:4px}}
button:focus-visible,input:focus-visible,summary:focus-visible{outline:3px solid #e8710a;outline-offset:2px}
.say{min-height:1.5em;margin:8px 0 0;font-weight:600}
.warn{color:color-mix(in srgb,currentColor 35%,#e33b2e)}
.keys{font-size:.87em;opacity:.85;margin:10px 0 0}
dl{margin:0 0 12px}dt{font-weight:600}dd{margin:0 0 6px 1em}
kbd{font:inherit;font-size:.92em;border:1px solid var(--line);border-radius:4px;padding:0 5px}
@media (prefers-reduced-motion:no-preference){.clock i{transition:width .1s linear}}`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // strings become text nodes: names are never read as HTML
  return made;
}

function progress(done, total) {
  return element("div", { class: "done", role: "progressbar", "aria-label": "progress", "aria-valuemin": "0",
    "aria-valuemax": String(total), "aria-valuenow": String(done) }, element("i", { style: `width:${(100 * done) / total}%` }));
}

// Put a test into `root`. spec: {kind, several, questions: [[id, title, text]], test, listener, total, minutes}.
// hooks: answer({trial, answers, seconds, time}), and perhaps end(), an element for the last screen.
// Returns {show(trial, focus), finish(focus), say(text, warn)}; a trial is {number, count, hear (seconds
// of each sound that must have been played), film, poster, sounds (URLs)}.
export function mount(root, spec, hooks) {
  const host = element("div", { "data-lm-suppress-shortcuts": "true", lang: "en" }); // JupyterLab would take the letters
  const shadow = host.attachShadow({ mode: "open" });
  const all = element("div", { class: "all", tabindex: "-1", role: "group", "aria-label": "listening test" });
  const body = element("div");
  const says = element("div", { class: "say", role: "status", "aria-live": "polite" });
  all.append(body, says);
  shadow.append(element("style", {}, STYLE), all);
  root.append(host);
  const ids = spec.questions.map((q) => q[0]);
  let now = null; // the trial on screen
  let started = false, waiting = null;

  function say(text, warn = false) {
    says.textContent = text;
    says.classList.toggle("warn", warn);
  }

  function intro() {
    const facts = `${spec.total} trials, about ${spec.minutes} min. Please use headphones, and set a comfortable level ` +
      "before you begin; do not change it later.";
    const terms = element("dl");
    for (const [, title, text] of spec.questions) terms.append(element("dt", {}, title), element("dd", {}, text));
    const how = spec.kind === "rate"
      ? "You see a video with several sounds, A, B, C ... Rate each sound on each question from 1 (bad) to 100 (excellent)."
      : `You see a video with several sounds, A, B, C ... For each question choose ${spec.several ? "one sound or more" : "one sound"}.`;
    const go = element("button", { type: "button", class: "go" }, "Begin");
    go.addEventListener("click", begin);
    const who = element("p", {}, "Listener: ", element("bdi", {}, spec.listener));
    body.replaceChildren(element("h2", {}, "Listening test"), element("p", {}, how), terms, element("p", {}, facts), who, go,
      element("p", { class: "keys" }, "Enter begins. Answers are kept as you give them: you may stop and come back."));
  }

  function begin() {
    started = true;
    if (waiting) show(waiting, true);
  }

  function stop() {
    if (!now) return;
    for (const media of [...now.audios, now.video]) { media.pause(); media.removeAttribute("src"); media.load(); }
    cancelAnimationFrame(now.frame);
    now = null;
  }

  function show(trial, focus = true) {
    if (!started) { waiting = trial; return; }
    stop();
    const letters = [...LETTERS].slice(0, trial.count);
    const video = element("video", { playsinline: "", "aria-label": "the picture of this trial", poster: trial.poster, preload: "auto" });
    video.muted = true;
    video.src = trial.film;
    const audios = trial.sounds.map((source) => { const a = new Audio(source); a.preload = "auto"; return a; });
    const t = now = { trial, letters, video, audios, current: -1, heard: letters.map(() => 0), last: 0, frame: 0, begun: performance.now(),
      answers: new Map(), asked: 0, digits: 0, typedAt: 0, wanted: wanted(spec.kind, ids, trial.count) };
    t.buttons = letters.map((letter, k) => {
      const b = element("button", { type: "button", class: "sound", "aria-pressed": "false", "aria-keyshortcuts": letter }, letter);
      b.addEventListener("click", () => hear(k));
      return b;
    });
    t.play = element("button", { type: "button", class: "play", "aria-keyshortcuts": "Space" }, "Play");
    t.play.addEventListener("click", toggle);
    t.bar = element("i");
    const confirm = element("button", { type: "button", class: "go", "aria-keyshortcuts": "Enter" }, "Confirm");
    confirm.addEventListener("click", submit);
    for (const media of audios) media.addEventListener("ended", rest);
    const keys = spec.kind === "rate"
      ? "Keys: letters play a sound, again: from its start · digits or ← → rate the marked field · Enter: next field, at the end confirm · Space: play, pause · Tab: move"
      : `Keys: letters play a sound, again: from its start · digits 1 to ${trial.count} choose in the marked question · Enter: next question, at the end confirm · Space: play, pause`;
    body.replaceChildren(
      element("h2", {}, `Trial ${trial.number} of ${spec.total}`),
      progress(trial.number - 1, spec.total),
      element("div", { class: "stage" }, video, element("div", { class: "controls" },
        element("div", { class: "row", role: "group", "aria-label": "sounds" }, ...t.buttons),
        element("div", { class: "clock", "aria-hidden": "true" }, t.bar),
        element("div", { class: "row" }, t.play),
        element("div", { class: "keys" }, keys))),
      spec.kind === "rate" ? grid(t) : questions(t), confirm);
    mark(t);
    marks(t);
    say("");
    if (focus) all.focus({ preventScroll: true });
    if (focus) host.scrollIntoView({ block: "nearest" });
  }

  function questions(t) {
    t.sets = spec.questions.map(([id, , text], q) => {
      const set = element("fieldset", { "data-question": id }, element("legend", {}, `${q + 1}. ${text}`));
      t.letters.forEach((letter, k) => {
        const input = element("input", { type: spec.several ? "checkbox" : "radio", name: `q${q}`, value: letter, "aria-label": `sound ${letter}` });
        input.addEventListener("change", () => { t.asked = q; answer(t, [id, ""], spec.several ? chosen(t.answers.get(`${id} `) || "", letter, true) : letter); });
        input.addEventListener("focus", () => { t.asked = q; mark(t); });
        set.append(element("label", { class: "choice" }, input, element("span", {}, letter, " ", element("kbd", { "aria-hidden": "true" }, String(k + 1)))));
      });
      return set;
    });
    return element("div", {}, ...t.sets);
  }

  function grid(t) {
    t.cells = new Map();
    t.names = t.letters.map((letter) => element("b", { "aria-hidden": "true" }, letter));
    const made = element("div", { class: "grid", style: `--n:${ids.length}` }, element("span", { class: "corner" }),
      ...spec.questions.map((q) => element("span", { class: "head", title: q[2] }, q[1])));
    t.letters.forEach((letter, k) => {
      made.append(t.names[k]);
      spec.questions.forEach(([id, title], q) => {
        const input = element("input", { type: "range", min: "1", max: "100", value: "50", "aria-label": `sound ${letter}, ${title}`, "aria-valuetext": "not rated" });
        const cell = element("div", { class: "cell unset", "data-name": title }, input, element("output", {}, "–"));
        const rated = () => answer(t, [id, letter], input.value);
        input.addEventListener("input", rated);
        input.addEventListener("pointerup", rated); // the middle may be meant, and is no change
        input.addEventListener("focus", () => { t.asked = k * ids.length + q; t.digits = 0; mark(t); if (t.current !== k && t.current >= 0) select(k); });
        t.cells.set(`${id} ${letter}`, { cell, input });
        made.append(cell);
      });
    });
    return made;
  }

  function answer(t, [question, candidate], value) {
    t.answers.set(`${question} ${candidate}`, value);
    if (spec.kind === "rate") {
      const { cell, input } = t.cells.get(`${question} ${candidate}`);
      input.value = value;
      input.setAttribute("aria-valuetext", value);
      cell.classList.remove("unset");
      cell.lastChild.textContent = value;
    } else {
      for (const input of t.sets[ids.indexOf(question)].querySelectorAll("input")) input.checked = value.includes(input.value);
      if (!value) t.answers.delete(`${question} ${candidate}`);
      say(value ? `question ${ids.indexOf(question) + 1}: ${list([...value])}` : "");
    }
    mark(t);
  }

  // The question or field that digits answer now.
  function mark(t) {
    if (spec.kind === "rate") {
      t.wanted.forEach(([q, letter], k) => t.cells.get(`${q} ${letter}`).cell.classList.toggle("now", k === t.asked));
    } else t.sets.forEach((set, k) => set.classList.toggle("now", k === t.asked));
  }

  function marks(t) {
    t.buttons.forEach((b, k) => {
      const done = t.heard[k] >= t.trial.hear;
      b.textContent = done ? `${t.letters[k]} ✓` : t.letters[k];
      b.setAttribute("aria-label", `sound ${t.letters[k]}${done ? ", heard" : ""}`);
      b.setAttribute("aria-pressed", String(k === t.current));
      if (t.names) t.names[k].classList.toggle("now", k === t.current);
    });
  }

  const playing = () => now && now.current >= 0 && !now.audios[now.current].paused && !now.audios[now.current].ended;

  function rest() {
    if (!now) return;
    step(false);
    if (playing()) return;
    now.video.pause();
    now.play.textContent = "Play";
  }

  // Called in every picture: the sound is the clock, and what was really played is counted.
  function step(again = true) {
    const t = now;
    if (!t || t.current < 0) return;
    const audio = t.audios[t.current], at = audio.currentTime, passed = at - t.last;
    if (passed > 0 && passed < 0.6) {
      const before = t.heard[t.current];
      t.heard[t.current] += passed;
      if (before < t.trial.hear && t.heard[t.current] >= t.trial.hear) marks(t);
    }
    t.last = at;
    t.bar.style.width = `${Math.min(100, (100 * at) / (audio.duration || 1))}%`;
    if (!t.video.seeking) {
      const move = follow(at - t.video.currentTime, playing());
      if (move.seek) t.video.currentTime = Math.min(at + 0.001, t.video.duration || at);
      t.video.playbackRate = move.rate;
    }
    if (again && playing()) t.frame = requestAnimationFrame(() => step());
  }

  function start() {
    const t = now, audio = t.audios[t.current];
    if (audio.ended || audio.currentTime >= audio.duration - 0.01) audio.currentTime = 0;
    t.last = audio.currentTime;
    t.play.textContent = "Pause";
    document.dispatchEvent(new CustomEvent("v2a-play", { detail: host }));
    Promise.resolve(audio.play()).catch((error) => { if (error.name !== "AbortError") { say("this browser refused to play", true); rest(); } });
    Promise.resolve(t.video.play()).catch(() => {});
    cancelAnimationFrame(t.frame);
    t.frame = requestAnimationFrame(() => step());
  }

  function toggle() {
    if (!now) return;
    if (now.current < 0) return hear(0);
    if (!playing()) return start();
    now.audios[now.current].pause();
    rest();
  }

  // To another sound, at the same place; it goes on if it was playing.
  function select(index) {
    const t = now;
    if (index === t.current) return;
    const before = t.audios[t.current], after = t.audios[index], running = playing();
    if (before) step(false);
    after.currentTime = before ? (before.ended ? 0 : before.currentTime) : 0;
    t.current = index;
    t.last = after.currentTime;
    if (before) before.pause();
    if (running) start();
    marks(t);
  }

  function hear(index) {
    if (!now || !now.audios[index]) return;
    const same = index === now.current;
    select(index);
    if (same && playing()) now.audios[index].currentTime = now.last = 0; // the same letter again: from the start
    if (!playing()) start();
    marks(now);
    say(`sound ${now.letters[index]}${same ? "" : " plays"}`);
  }

  function digit(value) {
    const t = now;
    if (spec.kind === "choose") {
      if (value < 1 || value > t.letters.length) return;
      const id = ids[t.asked];
      return answer(t, [id, ""], chosen(t.answers.get(`${id} `) || "", t.letters[value - 1], spec.several));
    }
    const time = performance.now();
    t.digits = typed(time - t.typedAt < 1500 ? t.digits : 0, value);
    t.typedAt = time;
    if (t.digits) answer(t, t.wanted[t.asked], String(t.digits));
  }

  const given = (t, k) => t.answers.has(t.wanted[k].join(" "));

  // Enter: to the next question or field that has no answer; when there is none, hand in.
  function confirm() {
    const t = now, n = t.wanted.length;
    t.digits = 0;
    if (!given(t, t.asked)) return say(spec.kind === "rate" ? "Rate this field first: type 1 to 100, or use the arrow keys." : `Answer question ${t.asked + 1} first.`, true);
    for (let k = 1; k < n; k++) {
      const next = (t.asked + k) % n;
      if (given(t, next)) continue;
      t.asked = next;
      mark(t);
      if (spec.kind === "rate") t.cells.get(t.wanted[next].join(" ")).input.focus();
      else all.focus({ preventScroll: true });
      return say(spec.kind === "rate" ? "" : `question ${next + 1}`);
    }
    submit();
  }

  function submit() {
    const t = now;
    const unheard = t.letters.filter((_, k) => t.heard[k] < t.trial.hear);
    const missing = t.wanted.findIndex((_, k) => !given(t, k));
    if (unheard.length) return say(`Listen to ${list(unheard)} first.`, true);
    if (missing >= 0) {
      t.asked = missing;
      mark(t);
      const [question, letter] = t.wanted[missing], title = spec.questions[ids.indexOf(question)][1];
      return say(letter ? `Not rated yet: sound ${letter}, ${title}.` : `Not answered yet: question ${missing + 1}.`, true);
    }
    const answers = t.wanted.map(([q, letter]) => [q, letter, t.answers.get(`${q} ${letter}`)]);
    if (t.sent && performance.now() - t.sent < 3000) return; // a second press while the first is being kept
    t.sent = performance.now();
    if (playing()) toggle();
    hooks.answer({ trial: t.trial.number, answers, seconds: (performance.now() - t.begun) / 1000, time: new Date().toISOString().replace(/\.\d+Z/, "+00:00") });
  }

  function finish(focus = true) {
    started = true;
    stop();
    body.replaceChildren(element("h2", {}, "That was all: thank you"), progress(1, 1),
      ...(hooks.end ? [hooks.end()] : [element("p", {}, "All answers are in the file.")]));
    say("");
    if (focus) all.focus({ preventScroll: true });
  }

  shadow.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target, tag = target.tagName;
    if (!now) {
      if (event.key === "Enter" && !started && tag !== "BUTTON") { event.preventDefault(); begin(); }
      return;
    }
    if (spec.kind === "choose" && (event.key === "ArrowUp" || event.key === "ArrowDown") && tag !== "INPUT") {
      now.asked = Math.min(ids.length - 1, Math.max(0, now.asked + (event.key === "ArrowUp" ? -1 : 1)));
      event.preventDefault();
      return mark(now);
    }
    if (spec.kind === "rate" && event.key.startsWith("Arrow") && tag !== "INPUT") {
      event.preventDefault(); // from anywhere, the arrows go to the marked field
      return now.cells.get(now.wanted[now.asked].join(" ")).input.focus();
    }
    const what = command(event.key, now.letters.length);
    if (!what) return;
    // buttons and choices keep their own keys
    if (what.do === "toggle" && (tag === "BUTTON" || target.type === "radio" || target.type === "checkbox")) return;
    if (what.do === "confirm" && tag === "BUTTON") return;
    event.preventDefault();
    event.stopPropagation();
    if (what.do === "toggle") toggle();
    else if (what.do === "confirm") confirm();
    else if (what.do === "digit") digit(what.digit);
    else {
      hear(what.index);
      if (spec.kind === "rate") { // rate what is heard
        const first = now.wanted.findIndex(([, letter], k) => letter === now.letters[what.index] && !given(now, k));
        now.asked = first >= 0 ? first : what.index * ids.length;
        now.cells.get(now.wanted[now.asked].join(" ")).input.focus();
      }
    }
  });
  const other = (event) => { if (event.detail !== host && playing()) toggle(); }; // one player sounds at a time
  document.addEventListener("v2a-play", other);
  intro();
  return { show, finish, say, host, focus: () => all.focus({ preventScroll: true }), started: () => started, refused() { if (now) now.sent = 0; },
    remove() { stop(); document.removeEventListener("v2a-play", other); host.remove(); } };
}

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

// One record a trial: the first that was given, in the order of the trials.
export function together(first, then) {
  const trials = new Map([...then, ...first].map((r) => [r.trial, r]));
  return [...trials.values()].sort((a, b) => a.trial - b.trial);
}

// A second place for answers: a database. Chromium was seen to show a page that is a file an empty localStorage for good
// when it was opened again on a busy machine. Where there is no database, every reading is null.
function database(place) {
  const opened = new Promise((resolve) => {
    try {
      const asked = indexedDB.open("v2a-listening", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("answers");
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  // what was kept goes through `change`, and what comes of that is kept, in one transaction: two tabs lose nothing
  const act = (mode, change) => opened.then((it) => new Promise((resolve) => {
    if (!it) return resolve(null);
    const all = it.transaction("answers", mode), answers = all.objectStore("answers"), asked = answers.get(place);
    asked.onsuccess = () => { if (mode === "readwrite") answers.put(change(asked.result ?? null), place); };
    all.oncomplete = () => resolve(asked.result ?? null);
    all.onabort = () => resolve(null);
  })).catch(() => null);
  return { read: () => act("readonly"), write: (change) => act("readwrite", change) };
}

// The page that runs alone: answers are kept by the browser as they are given, and offered as CSV.
export function page(root, spec, trials, find) {
  const place = `v2a-listening/${spec.test}/${spec.listener}/${spec.part}`;
  const urls = new Map();
  let records = [], kept = true, notice = "";
  const read = (raw) => {
    const found = raw ? JSON.parse(raw) : [];
    if (!Array.isArray(found) || !found.every((r) => Array.isArray(r.answers))) throw new Error("no list of answers");
    return found;
  };
  try {
    const raw = localStorage.getItem(place);
    try {
      records = read(raw);
    } catch {
      localStorage.setItem(`${place}/damaged-${raw.length}`, raw); // nothing is thrown away
      notice = "Former answers in this browser could not be read; they were set aside, and the test begins anew.";
    }
  } catch {
    kept = false;
  }
  const UNKEPT = "This browser keeps nothing for this page: download your answers before you close it.";
  const url = (id, type) => {
    if (!urls.has(id)) urls.set(id, URL.createObjectURL(new Blob([bytes(find(id))], { type })));
    return urls.get(id);
  };

  function download() {
    const link = element("a", { href: URL.createObjectURL(new Blob([csv(spec, records)], { type: "text/csv" })), download: fileName(spec.listener + spec.suffix) });
    document.body.append(link); // some browsers follow only what is in the page
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function end() {
    const button = element("button", { type: "button", class: "go" }, "Download the answers (CSV)");
    button.addEventListener("click", download);
    const words = spec.parts > 1 ? ` This was part ${spec.part} of ${spec.parts}; each part has its own file.` : "";
    setTimeout(() => button.focus(), 0);
    return element("div", {}, element("p", {}, `Please download the file and send it to whoever asked you.${words}`), button);
  }

  const saver = element("button", { type: "button" }, "Download the answers so far (CSV)");
  const test = mount(root, spec, { answer, end });
  let shown = null;
  const foot = element("p", { class: "foot", hidden: "" }, saver);
  root.append(foot);
  saver.addEventListener("click", download);

  function next(focus) {
    const done = new Set(records.map((r) => r.trial));
    const trial = trials.find((t) => !done.has(t.number));
    foot.hidden = !records.length || !trial;
    shown = trial?.number;
    if (!trial) return test.finish(focus);
    test.show({ number: trial.number, count: trial.sounds.length, hear: trial.hear, film: url(trial.film, "video/mp4"),
      poster: url(trial.poster, "image/jpeg"), sounds: trial.sounds.map((s) => url(s, "audio/wav")) }, focus);
  }

  // Answers given in another tab, or just before this page was opened again: the browser may tell of them late.
  function gather(raw) {
    try {
      records = together(read(raw), records);
    } catch {
      // what cannot be read is replaced by what is known here
    }
  }
  function look(raw) {
    const before = records.length;
    if (raw) gather(raw);
    if (records.length === before) return;
    if (records.some((r) => r.trial === shown)) next(false);
    again();
  }
  window.addEventListener("storage", ({ key, newValue }) => { if (key === place) look(newValue); });
  // a busy browser was seen to lose that event: tabs also tell each other
  const others = typeof BroadcastChannel === "function" ? new BroadcastChannel(place) : null;
  if (others) others.onmessage = ({ data }) => look(data);
  const stored = database(place);
  const seen = () => {
    if (document.hidden) return;
    if (kept) look(localStorage.getItem(place));
    stored.read().then(look);
  };
  document.addEventListener("visibilitychange", seen); // a tab that slept may have missed it
  window.addEventListener("focus", seen);

  function answer(record) {
    records = together(records, [record]);
    try {
      gather(localStorage.getItem(place));
      localStorage.setItem(place, JSON.stringify(records));
      if (!kept) kept = true;
    } catch {
      kept = false;
    }
    others?.postMessage(JSON.stringify(records));
    // who sees the next trial may close the page: the answer is kept by then, unless the database is not to be had
    const written = stored.write((raw) => { if (raw) gather(raw); return JSON.stringify(records); });
    const patience = new Promise((resolve) => setTimeout(resolve, 1000));
    Promise.race([written, patience]).then(() => {
      next(true);
      if (!kept) test.say(UNKEPT, true);
    });
  }

  window.addEventListener("beforeunload", (event) => { if (!kept && records.length) event.preventDefault(); });
  next(false);
  const again = () => test.say(`Trials answered already: ${records.length}; the test goes on after them.`);
  if (notice || !kept) test.say(notice || UNKEPT, !kept);
  else if (records.length) again();
  stored.read().then(look);
  test.focus();
  return { records: () => records, test };
}

// In a notebook: one trial at a time comes from the kernel, and every answer goes to it.
function render({ model, el }) {
  const spec = JSON.parse(model.get("_spec"));
  let urls = [], serial = 0;
  const test = mount(el, spec, {
    answer(record) {
      test.say("keeping the answer ...");
      serial += 1;
      model.set("_answer", { ...record, serial: `${Date.now()}-${serial}` });
      model.save_changes();
      setTimeout(() => { if (JSON.parse(model.get("_trial")).number === record.trial && !model.get("_notice")) test.say("No word from the kernel yet: is it running? Press Enter to send again.", true); }, 4000);
    },
  });
  const show = () => {
    const trial = JSON.parse(model.get("_trial")), media = model.get("_media");
    urls.forEach((u) => URL.revokeObjectURL(u));
    if (!trial.number) return test.finish(test.started());
    urls = media.map((data, k) => URL.createObjectURL(new Blob([data], { type: ["video/mp4", "image/jpeg"][k] || "audio/wav" })));
    test.show({ number: trial.number, count: urls.length - 2, hear: trial.hear, film: urls[0], poster: urls[1], sounds: urls.slice(2) }, test.started());
  };
  const tell = () => { if (model.get("_notice")) { test.refused(); test.say(model.get("_notice"), true); } };
  model.on("change:_trial", show);
  model.on("change:_notice", tell);
  show();
  tell();
  return () => {
    model.off("change:_trial", show);
    model.off("change:_notice", tell);
    test.remove();
    urls.forEach((u) => URL.revokeObjectURL(u));
  };
}

export default { render };
