"use strict";
(() => {
  const margin = 10, width = 1200 - 2 * margin, letter = 7;
  const by = id => document.getElementById(id);
  const frames = Array.from(by("frames").children).map(group => {
    const [title, rect, text] = group.children;
    const x = +rect.getAttribute("x"), w = +rect.getAttribute("width");
    return { group, rect, text, x, w, y: +rect.getAttribute("y"),
      name: group.dataset.n, told: title.textContent };
  });
  if (!frames.length) return;
  const bottom = Math.max(...frames.map(frame => frame.y));
  let term = "";
  // Boxes are given with two decimals.
  const slack = 0.011;

  const label = (frame, w) => {
    const letters = Math.floor((w - 4) / letter);
    return letters < 3 && frame.name.length > letters ? "" : frame.name.slice(0, letters);
  };
  const zoom = focus => {
    const scale = width / focus.w;
    for (const frame of frames) {
      const above = frame.y <= focus.y && frame.x >= focus.x - slack &&
        frame.x + frame.w <= focus.x + focus.w + slack;
      const below = frame.y > focus.y && frame.x <= focus.x + slack &&
        frame.x + frame.w >= focus.x + focus.w - slack;
      const x = below ? margin : margin + (frame.x - focus.x) * scale;
      const w = below ? width : frame.w * scale;
      frame.group.classList.toggle("hidden", !above && !below);
      frame.group.classList.toggle("around", below);
      if (!above && !below) continue;
      frame.rect.setAttribute("x", x);
      frame.rect.setAttribute("width", w);
      frame.text.setAttribute("x", x + 3);
      frame.text.textContent = label(frame, w);
    }
    by("reset").classList.toggle("hidden", focus.y === bottom);
  };
  const root = frames.find(frame => frame.y === bottom);
  const search = wanted => {
    let test = name => name.includes(wanted);
    try { const pattern = new RegExp(wanted); test = name => pattern.test(name); } catch (e) { }
    term = wanted;
    const found = frames.filter(frame => {
      const hit = wanted !== "" && test(frame.name);
      frame.group.classList.toggle("found", hit);
      return hit;
    });
    // What is within another box that was found counts once.
    found.sort((a, b) => a.x - b.x || b.w - a.w);
    let end = -1, sum = 0;
    for (const frame of found) {
      if (frame.x >= end - slack) { sum += frame.w; end = frame.x + frame.w; }
    }
    by("matched").textContent = wanted === "" ? "" :
      "Matched: " + (100 * sum / root.w).toFixed(1) + " % (" + found.length + ")";
    by("search").textContent = wanted === "" ? "Search (/)" : "Reset search";
  };
  const ask = () => {
    if (term !== "") return search("");
    const wanted = prompt("Functions to show (a regular expression):", "");
    if (wanted !== null) search(wanted);
  };
  for (const frame of frames) {
    frame.rect.addEventListener("click", () => zoom(frame));
    frame.rect.addEventListener("mouseover", () => { by("details").textContent = frame.told; });
    frame.rect.addEventListener("mouseout", () => { by("details").textContent = " "; });
  }
  by("reset").addEventListener("click", () => zoom(root));
  by("search").addEventListener("click", ask);
  document.addEventListener("keydown", event => {
    if (event.key === "/" || (event.key === "f" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      ask();
    } else if (event.key === "Escape") {
      search("");
      zoom(root);
    }
  });
})();
