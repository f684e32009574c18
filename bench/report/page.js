"use strict";
// Values at a pointer or a tap: the nearest mark of the plot tells what it stands for.
for (const svg of document.querySelectorAll("svg.plot")) {
  const data = JSON.parse(svg.dataset.hits);
  const hits = (data.p || []).map(([x, y, s, t]) => ({ x, y, t: data.s[s] + ", " + t }));
  const figure = svg.closest("figure");
  let tip = null, ring = null;
  const leave = () => {
    if (tip) { tip.remove(); ring.remove(); tip = ring = null; }
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = 36 * 36;
    for (const h of hits) {
      const far = (h.x - x) ** 2 + (h.y - y) ** 2;
      if (far < least) { least = far; best = h; }
    }
    if (!best) return leave();
    if (!tip) {
      tip = figure.appendChild(document.createElement("div"));
      tip.className = "tip";
      ring = svg.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
      ring.setAttribute("class", "at");
      ring.setAttribute("r", 7.5);
    }
    ring.setAttribute("cx", best.x);
    ring.setAttribute("cy", best.y);
    // Marks that lie upon each other are told together.
    tip.textContent = "";
    for (const h of hits.filter((h) => Math.abs(h.x - best.x) < 3 && Math.abs(h.y - best.y) < 3).slice(0, 5)) {
      tip.appendChild(document.createElement("div")).textContent = h.t;
    }
    const outer = figure.getBoundingClientRect();
    const px = box.left - outer.left + best.x / scale, py = box.top - outer.top + best.y / scale;
    tip.style.left = "0";
    tip.style.left = Math.max(0, Math.min(px + 12, outer.width - tip.offsetWidth)) + "px";
    tip.style.top = (py - tip.offsetHeight - 12) + "px";
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") leave(); });
  document.addEventListener("pointerdown", (event) => { if (!svg.contains(event.target)) leave(); });
}
// Where a figure has several plots, one is shown and the others are chosen. Without this script all of them stand there.
for (const fig of document.querySelectorAll(".fig")) {
  const figures = [...fig.querySelectorAll("figure")];
  if (figures.length < 2) continue;
  const select = document.createElement("select");
  select.className = "choose";
  select.setAttribute("aria-label", "Which setting the plot shows");
  for (const f of figures) select.add(new Option(f.dataset.label));
  const choose = () => figures.forEach((f, i) => { f.hidden = i !== select.selectedIndex; });
  select.addEventListener("change", choose);
  fig.classList.add("chosen");
  fig.prepend(select);
  choose();
}
