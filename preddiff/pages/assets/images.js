"use strict";
// Images: relevance on top of a photograph, any number of maps side by side.
const images = (() => {
  const { index, element } = preddiff;
  const [HEIGHT, WIDTH] = index.space;
  // Maps that are shown at first.
  const AT_FIRST = 4;
  const EDGE = [0, 255, 0];
  const LUMINANCE = [0.299, 0.587, 0.114];
  const panels = [];
  let picture = null;
  let truth = null;
  let marked = null;
  let version = 0;
  // Until a person chooses maps, those of each image are shown that explain it.
  let chosen = false;

  // Red, green and blue from 0 to 255 of each pixel, rows from top to bottom.
  function pixelsOf(packed, white) {
    const [channels] = packed.shape;
    const found = new Float32Array(HEIGHT * WIDTH * 3);
    for (let y = 0; y < HEIGHT; y += 1) {
      for (let x = 0; x < WIDTH; x += 1) {
        for (let c = 0; c < 3; c += 1) {
          const place = Math.min(c, channels - 1) + channels * (y + HEIGHT * x);
          found[3 * (y * WIDTH + x) + c] = 255 * Math.max(0, Math.min(1, packed.value(place) / white));
        }
      }
    }
    return found;
  }

  // Place of a pixel in the arrays of an explanation; -1 outside the classifier's input.
  function placeOf(x, y, explanation) {
    const [top, left] = explanation.corner;
    const [height, width] = explanation.space;
    const row = y - top;
    const column = x - left;
    return row < 0 || column < 0 || row >= height || column >= width ? -1 : row + height * column;
  }

  const explanationOf = (panel) => index.explanations[panel.explanationSelect.selectedIndex];
  const targetOf = (panel) => explanationOf(panel).targets[panel.targetSelect.selectedIndex];

  function aboutMap(panel, of) {
    const maps = of.maps[panel.explanationSelect.selectedIndex];
    return maps ? maps[panel.targetSelect.selectedIndex] : null;
  }

  function limitOf(panel) {
    const own = panel.about ? panel.about.relevance.limit : 0;
    if (element("scale").value === "own") return own || 1;
    const all = index.items.map((one) => aboutMap(panel, one)).filter(Boolean).map((about) => about.relevance.limit);
    return Math.max(own, ...all) || 1;
  }

  function fillTargets(panel) {
    const { targets } = explanationOf(panel);
    preddiff.fill(panel.targetSelect, targets.map((_, n) => String(n)), targets.map((one) => one.name));
  }

  function addPanel(explanation, target) {
    element("panels").append(element("map").content.cloneNode(true));
    const section = element("panels").lastElementChild;
    const panel = { section, version: 0, picture: section.querySelector(".picture"), canvas: section.querySelector(".picture canvas"),
      explanationSelect: section.querySelector(".explanation"), targetSelect: section.querySelector(".target") };
    preddiff.fill(panel.explanationSelect, index.explanations.map((_, n) => String(n)),
      index.explanations.map(preddiff.explanationTitle));
    panel.explanationSelect.selectedIndex = explanation;
    fillTargets(panel);
    panel.targetSelect.selectedIndex = target;
    const again = () => { chosen = true; preddiff.doing(() => show(panel)); };
    panel.explanationSelect.addEventListener("change", () => { fillTargets(panel); again(); });
    panel.targetSelect.addEventListener("change", again);
    section.querySelector(".remove").addEventListener("click", () => {
      chosen = true;
      panels.splice(panels.indexOf(panel), 1);
      section.remove();
    });
    listen(panel.picture);
    panels.push(panel);
    return panel;
  }

  // Another map of what is shown last: its next target, or else the first of the next explanation.
  function addNext() {
    chosen = true;
    const last = panels[panels.length - 1];
    let [explanation, target] = last ? [last.explanationSelect.selectedIndex, last.targetSelect.selectedIndex + 1] : [0, 0];
    if (target >= index.explanations[explanation].targets.length) {
      explanation = (explanation + 1) % index.explanations.length;
      target = 0;
    }
    preddiff.doing(() => show(addPanel(explanation, target)));
  }

  async function show(panel) {
    panel.version += 1;
    const now = panel.version;
    const about = aboutMap(panel, await preddiff.chosenItem());
    const explanation = explanationOf(panel);
    const target = targetOf(panel);
    const [map, error] = about ? await Promise.all([preddiff.unpack(about.relevance), preddiff.unpack(about.error)]) : [null, null];
    // Another image or map was chosen meanwhile.
    if (now !== panel.version) return;
    Object.assign(panel, { map, error, about, explanation, target });
    panel.section.querySelector(".label").textContent = about ? about.label : `not explained by ${panel.explanation.name}`;
    draw(panel);
    readOut(panel);
  }

  function draw(panel) {
    if (!picture) return;
    const threshold = Number(element("threshold").value) / 100;
    const opacity = Number(element("opacity").value) / 100;
    const sign = element("sign").value;
    const colours = preddiff.colormap();
    const limit = limitOf(panel);
    const grey = element("grey").checked;
    paint(panel.canvas, (x, y) => {
      if (isEdge(x, y)) return EDGE;
      const start = 3 * (y * WIDTH + x);
      let below = [picture[start], picture[start + 1], picture[start + 2]];
      if (grey) below = Array(3).fill(below[0] * LUMINANCE[0] + below[1] * LUMINANCE[1] + below[2] * LUMINANCE[2]);
      const place = panel.map ? placeOf(x, y, panel.explanation) : -1;
      if (place < 0) return below;
      const share = panel.map.value(place) / limit;
      // Not computed: crossed lines.
      if (Number.isNaN(share)) return (x + y) % 4 === 0 || (x - y) % 4 === 0 ? [255, 230, 0] : [90, 90, 90];
      if (!preddiff.shown(share, threshold, sign)) return below;
      return preddiff.colour(colours, share).map((value, c) => opacity * value + (1 - opacity) * below[c]);
    });
    const [bar, text] = panel.section.querySelector(".scale").children;
    preddiff.drawScale(bar, colours, threshold, sign);
    text.textContent = preddiff.describeScale(limit, threshold, targetOf(panel));
  }

  function paint(canvas, colourOf) {
    canvas.width = WIDTH;
    canvas.height = HEIGHT;
    const context = canvas.getContext("2d");
    const drawn = context.createImageData(WIDTH, HEIGHT);
    for (let y = 0, n = 0; y < HEIGHT; y += 1) {
      for (let x = 0; x < WIDTH; x += 1, n += 4) {
        const [r, g, b] = colourOf(x, y);
        drawn.data[n] = r;
        drawn.data[n + 1] = g;
        drawn.data[n + 2] = b;
        drawn.data[n + 3] = 255;
      }
    }
    context.putImageData(drawn, 0, 0);
  }

  async function showItem() {
    version += 1;
    const now = version;
    preddiff.enableSteps();
    const of = await preddiff.chosenItem();
    const [packed, mask] = await Promise.all([preddiff.unpack(of.picture), preddiff.unpack(of.truth)]);
    // Another image was chosen meanwhile.
    if (now !== version) return;
    picture = pixelsOf(packed, of.white);
    truth = mask;
    drawOriginal();
    element("facts").textContent = [preddiff.itemTitle(of), ...of.facts].join("; ");
    if (!chosen) addExplaining(of);
    await Promise.all(panels.map(show));
  }

  function addExplaining(of) {
    panels.splice(0).forEach((panel) => panel.section.remove());
    const explaining = index.explanations.map((_, n) => n).filter((n) => of.maps[n]);
    explaining.slice(0, AT_FIRST).forEach((n) => addPanel(n, 0));
  }

  function drawOriginal() {
    const start = (x, y) => 3 * (y * WIDTH + x);
    paint(document.querySelector("#original canvas"), (x, y) => (isEdge(x, y) ? EDGE : picture.subarray(start(x, y), start(x, y) + 3)));
  }

  // Whether a pixel is on the outline of a known object that is to be shown.
  function isEdge(x, y) {
    if (!truth || !element("truth").checked) return false;
    const inside = (column, row) => column >= 0 && row >= 0 && column < WIDTH && row < HEIGHT && truth.value(row + HEIGHT * column) > 0;
    return inside(x, y) && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1));
  }

  function listen(holder) {
    const point = (event) => {
      const box = holder.getBoundingClientRect();
      mark(Math.floor((event.clientX - box.left) / box.width * WIDTH), Math.floor((event.clientY - box.top) / box.height * HEIGHT));
    };
    holder.addEventListener("pointermove", point);
    holder.addEventListener("pointerdown", point);
  }

  // All maps mark the same pixel.
  function mark(x, y) {
    marked = [Math.max(0, Math.min(WIDTH - 1, x)), Math.max(0, Math.min(HEIGHT - 1, y))];
    element("place").textContent = `Pixel: column ${marked[0]}, row ${marked[1]}`;
    for (const marker of document.querySelectorAll(".marker")) place(marker);
    panels.forEach(readOut);
  }

  function place(marker) {
    marker.hidden = !marked;
    if (!marked) return;
    marker.style.left = `${100 * marked[0] / WIDTH}%`;
    marker.style.top = `${100 * marked[1] / HEIGHT}%`;
    marker.style.width = `${100 / WIDTH}%`;
    marker.style.height = `${100 / HEIGHT}%`;
  }

  function readOut(panel) {
    place(panel.section.querySelector(".marker"));
    if (!panel.about) { preddiff.rows(panel.section.querySelector("tbody"), []); return; }
    const at = marked ? placeOf(...marked, panel.explanation) : -1;
    const { unit } = panel.target;
    const title = panel.explanation.error || "standard error";
    const inside = (text) => (!marked ? "point at a pixel" : at < 0 ? "outside the classifier's input" : text());
    preddiff.rows(panel.section.querySelector("tbody"), [
      ["Relevance", inside(() => preddiff.withUnit(panel.map.value(at), unit))],
      [title[0].toUpperCase() + title.slice(1),
        inside(() => (panel.error ? preddiff.withUnit(panel.error.value(at), unit) : "0 (exact, or unknown)"))],
    ]);
  }

  function changed(id) {
    if (id === "item") preddiff.doing(showItem);
    else {
      drawOriginal();
      panels.forEach(draw);
    }
  }

  function move(right, up) {
    const [x, y] = marked || [Math.floor(WIDTH / 2), Math.floor(HEIGHT / 2)];
    mark(x + right, y - up);
  }

  async function start() {
    preddiff.start(changed, move);
    element("add").addEventListener("click", addNext);
    listen(document.querySelector("#original .picture"));
    await showItem();
    document.body.dataset.ready = "true";
  }

  preddiff.doing(start);
  return { panels, mark, placeOf };
})();
