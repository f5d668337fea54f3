// The clip browser's filters and players: `fits` decides which clips a choice shows, `mount` ties it to a page.
// Plain script, no imports: it is put into the page as it is.

const fits = (clip, { material = "", ambience = "", event = "", text = "" }) => {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if ((ambience && clip.ambience !== ambience) || !words.every((word) => clip.text.includes(word))) return false;
  if (event === "no event") return clip.empty && !material;
  const right = clip.pairs.filter(([, kind]) => (event ? kind === event : kind !== "near miss")).map(([m]) => m);
  return material ? right.includes(material) : right.length > 0 || !event;
};
const element = (tag, more) => Object.assign(document.createElement(tag), more);
const mount = (root) => {
  root.dataset.mounted = "yes";
  const find = (what) => root.querySelector(what), form = find("form"), box = find(".box");
  const data = JSON.parse(find("script[type='application/json']").textContent), cards = [...find(".grid").children];
  let open = null; // the button whose player is shown
  const turn = (to) => {
    if (open) open.ariaExpanded = "false";
    if (to) to.ariaExpanded = "true";
    box.replaceChildren();
    box.hidden = !(open = to);
  };
  cards.forEach((card, k) => {
    if (!(k in data.players)) return;
    const name = card.querySelector(".name").textContent, image = card.querySelector("img");
    const play = "\u25b6 play"; // what is seen is part of what is read out
    const opener = element("button", { type: "button", className: "open", ariaLabel: `${play} ${name}` });
    opener.ariaExpanded = "false";
    image.replaceWith(opener);
    opener.append(image, element("span", { textContent: play }));
    opener.onclick = () => {
      turn(open === opener ? null : opener);
      if (!open) return;
      box.ariaLabel = "Player of " + name;
      box.innerHTML = data.players[k].join(data.shared); // names in it are escaped
      for (const old of box.querySelectorAll("script:not([type])")) { // set as text, a script does not run
        old.replaceWith(element("script", { textContent: old.textContent }));
      }
      box.focus();
    };
  });
  form.oninput = () => {
    const want = Object.fromEntries(new FormData(form));
    cards.forEach((card, k) => { card.hidden = !fits(data.clips[k], want); });
    const n = cards.filter((card) => !card.hidden).length;
    find("output").textContent = n ? `${n} of ${cards.length} shown` : "No clip fits.";
  };
  form.onsubmit = (event) => event.preventDefault();
  form.onreset = () => setTimeout(form.oninput);
  form.hidden = false;
  form.oninput();
};
