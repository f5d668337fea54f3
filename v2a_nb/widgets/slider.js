// A range input over cards that stand below each other: one is shown at a time, and what plays goes on in the next.
// One plain ES module: no bundler, no network. Without it all cards are there to read and to hear.

// The card that belongs to a slider's value, whatever the value is.
export function cardAt(value, cards) {
  const k = Math.round(Number(value));
  return Number.isFinite(k) ? Math.min(Math.max(k, 0), cards - 1) : 0;
}

// Where the next sound begins: where the last one was, or from the start where that is over.
export function goOnAt(time, duration) {
  return Number.isFinite(duration) && time < duration - 0.05 ? time : 0;
}

export function mount(root) {
  root.dataset.mounted = "";
  const cards = [...root.querySelectorAll("[data-card]")];
  const document = root.ownerDocument;
  const range = Object.assign(document.createElement("input"), {
    type: "range", min: 0, max: cards.length - 1, step: 1, value: root.dataset.first || 0,
  });
  range.setAttribute("aria-label", root.dataset.name);
  range.style.cssText = "width:100%;margin:6px 0;accent-color:#2457c5";
  const name = document.createElement("b");
  name.textContent = `${root.dataset.name}: `;
  const said = document.createElement("output");
  const line = document.createElement("p");
  line.style.cssText = "margin:0";
  line.append(name, said);
  const bar = document.createElement("div");
  bar.append(line, range);
  root.querySelector("[data-cards]").before(bar);
  root.querySelector("[data-cards]").style.display = "block";
  root.querySelectorAll("[data-plain]").forEach((words) => words.remove());
  let now = -1;
  const show = () => {
    const next = cardAt(range.value, cards.length);
    if (next === now) return;
    const last = now < 0 ? null : cards[now].querySelector("audio");
    const sound = cards[next].querySelector("audio");
    now = next;
    cards.forEach((card, k) => { card.hidden = k !== now; });
    said.textContent = cards[now].dataset.card;
    range.setAttribute("aria-valuetext", cards[now].dataset.card);
    if (last && sound && !last.paused) {
      sound.currentTime = goOnAt(last.currentTime, sound.duration);
      last.pause();
      sound.play().catch(() => {}); // a browser may want a click first; its controls are there
    }
  };
  range.addEventListener("input", show);
  show();
}
