// A picture on which a box is drawn with the mouse, a finger or the keyboard: an anywidget front-end module.
// One plain ES module: no bundler, no network.

const LEAST = 0.03; // of the picture's side: a click is no box

// The box (x0, y0, x1, y1, from 0 to 1) between two points, or null where it is too small to be meant.
export function boxBetween(a, b) {
  const inside = (value) => Math.min(1, Math.max(0, value));
  const [x0, x1] = [inside(a[0]), inside(b[0])].sort((p, q) => p - q);
  const [y0, y1] = [inside(a[1]), inside(b[1])].sort((p, q) => p - q);
  return x1 - x0 < LEAST || y1 - y0 < LEAST ? null : [x0, y0, x1, y1];
}

// The box after a key: arrows move it, with shift they move its lower right corner. Null for other keys.
export function boxAfter(box, key, shift, step = 0.05) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!(key in ways)) return null;
  const moved = [...box];
  ways[key].forEach((way, axis) => {
    const [low, high] = [box[axis], box[axis + 2]];
    if (shift) moved[axis + 2] = Math.min(1, Math.max(low + LEAST, high + way * step));
    else {
      const by = Math.min(1 - high, Math.max(-low, way * step));
      moved[axis] = low + by;
      moved[axis + 2] = high + by;
    }
  });
  return moved;
}

export const percent = (box) => box.map((value) => `${Math.round(100 * value)} %`).join(", ");

function render({ model, el }) {
  const document = el.ownerDocument;
  const root = document.createElement("div");
  root.style.cssText =
    "position:relative;display:inline-block;line-height:0;touch-action:none;cursor:crosshair;user-select:none";
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  const picture = document.createElement("img");
  picture.draggable = false;
  picture.style.cssText = "width:280px;max-width:100%;image-rendering:auto";
  const box = document.createElement("div");
  box.style.cssText = "position:absolute;box-sizing:border-box;border:2px solid #fff;outline:2px solid #2457c5;background:#2457c555";
  const words = document.createElement("p");
  words.style.cssText = "margin:4px 0 0;font-size:.85em;max-width:280px;line-height:1.3";
  root.append(picture, box);
  el.append(root, words);
  const draw = (value) => {
    const [x0, y0, x1, y1] = value;
    const sides = { left: x0, top: y0, width: x1 - x0, height: y1 - y0 };
    for (const [side, share] of Object.entries(sides)) box.style[side] = `${100 * share}%`;
    root.setAttribute("aria-label", `hidden part of the picture: left, top, right, bottom at ${percent(value)}`);
  };
  const show = () => draw(model.get("value"));
  const shown = () => { picture.src = model.get("picture"); picture.alt = model.get("alt"); };
  const send = (value) => { model.set("value", value); model.save_changes(); };
  const at = (event) => {
    const edge = picture.getBoundingClientRect();
    return [(event.clientX - edge.left) / edge.width, (event.clientY - edge.top) / edge.height];
  };
  let from = null;
  root.addEventListener("pointerdown", (event) => {
    from = at(event);
    root.setPointerCapture?.(event.pointerId);
  });
  root.addEventListener("pointermove", (event) => {
    const drawn = from && boxBetween(from, at(event));
    if (drawn) draw(drawn);
  });
  root.addEventListener("pointerup", (event) => {
    const drawn = from && boxBetween(from, at(event));
    from = null;
    if (drawn) {
      draw(drawn);
      send(drawn); // one computation for a whole drag
    } else show();
  });
  root.addEventListener("pointercancel", () => { from = null; show(); });
  root.addEventListener("keydown", (event) => {
    const moved = boxAfter(model.get("value"), event.key, event.shiftKey);
    if (!moved) return;
    event.preventDefault();
    draw(moved);
    send(moved);
  });
  words.textContent =
    "Drag over the picture to hide a part of it. Keys: arrows move the part, with shift they change its size.";
  model.on("change:value", show);
  model.on("change:picture", shown);
  show();
  shown();
  return () => { model.off("change:value", show); model.off("change:picture", shown); };
}

export default { render };
