"use strict";
// What pages of volumes and of images share: the data of the page, colours, controls and keys.
const preddiff = (() => {
  const element = (id) => document.getElementById(id);
  const index = JSON.parse(element("index").textContent);

  // What a local server makes when it is asked for; pages in a file have all inside.
  async function served(name) {
    const answer = await fetch(`${encodeURIComponent(index.dataset)}/${name}`);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}: ${await answer.text()}`);
    return answer.text();
  }

  // The item that is chosen, with its maps.
  async function chosenItem() {
    const place = element("item").selectedIndex;
    const item = index.items[place];
    if (!item.maps) Object.assign(item, JSON.parse(await served(`item-${place}`)));
    return item;
  }

  async function bytes(array) {
    const inside = element(`array-${array}`);
    const text = inside ? inside.textContent : await served(array);
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  // An array as it is packed: codes with the first axis fastest, and what a code stands for.
  async function unpack(about) {
    if (!about) return null;
    const buffer = await bytes(about.array);
    const codes = about.dtype === "int16" ? new Int16Array(buffer) : new Uint8Array(buffer);
    const value = (place) => {
      const code = codes[place];
      if (code === about.missing) return NaN;
      return about.law === "square" ? about.scale * code * code : about.offset + about.scale * code;
    };
    return { codes, value, shape: about.shape, limit: about.limit, missing: about.missing };
  }

  // Numbers with so many digits as their errors leave of them.
  function number(value, digits = 3) {
    if (!Number.isFinite(value)) return "not computed";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e5) return value.toExponential(digits - 1).replace("-", "\u2212").replace("e-", "e\u2212");
    return value.toPrecision(digits).replace("-", "\u2212");
  }

  const withUnit = (value, unit) =>
    Number.isFinite(value) && unit ? `${number(value)} ${unit}` : number(value);

  function fill(select, names, titles = names) {
    select.replaceChildren(...names.map((name, place) => {
      const option = document.createElement("option");
      option.value = name;
      option.textContent = titles[place];
      return option;
    }));
  }

  function rows(table, pairs) {
    table.replaceChildren(...pairs.map(([title, text]) => {
      const row = document.createElement("tr");
      const head = row.appendChild(document.createElement("th"));
      head.scope = "row";
      head.textContent = title;
      row.appendChild(document.createElement("td")).textContent = text;
      return row;
    }));
  }

  // Colour of a share from -1 to 1 of the full scale.
  function colour(map, share) {
    const last = map.colours.length - 1;
    const place = (Math.max(-1, Math.min(1, share)) + 1) / 2 * last;
    const low = Math.min(Math.floor(place), last - 1);
    return [0, 1, 2].map((c) => map.colours[low][c] + (place - low) * (map.colours[low + 1][c] - map.colours[low][c]));
  }

  // Whether a value is shown, given its share of the full scale.
  function shown(share, threshold, sign) {
    if (!(Math.abs(share) >= threshold) || share === 0) return false;
    return sign === "both" || (sign === "for") === (share > 0);
  }

  function drawScale(canvas, map, threshold, sign) {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    for (let x = 0; x < width; x += 1) {
      const share = (x + 0.5) / width * 2 - 1;
      const [r, g, b] = shown(share, threshold, sign) ? colour(map, share) : [110, 110, 110];
      context.fillStyle = `rgb(${r},${g},${b})`;
      context.fillRect(x, 0, 1, height);
    }
  }

  function describeScale(limit, threshold, target) {
    const [low, high] = target.has_sides ? [" against", " for"] : ["", ""];
    return `${target.what}: ${withUnit(-limit, target.unit)}${low} \u2026 ${withUnit(limit, target.unit)}${high}; ` +
      `grey: below ${withUnit(threshold * limit, target.unit)}, not shown`;
  }

  // An explanation's name with the settings that tell it from others.
  function explanationTitle(one) {
    const s = one.settings;
    const parts = [s.method, s.sampler && s.sampler !== one.name ? s.sampler : null, s.k ? `k = ${s.k}` : null];
    const known = parts.filter((part) => part && part !== one.name);
    return known.length ? `${one.name} (${known.join(", ")})` : one.name;
  }

  function explanationFacts(one) {
    const s = one.settings;
    const texts = [`classifier ${one.classifier}`];
    if (s.k) texts.push(s.l ? `windows of side ${s.k} in surroundings of side ${s.l}` : `windows of side ${s.k}`);
    if (s.estimator === "exact") texts.push("exact expectations");
    else if (s.accuracy) texts.push(`accurate to ${s.accuracy * 100}% of the largest magnitude`);
    else if (s.draws) texts.push(`${s.draws} draws per window`);
    return texts.join(", ");
  }

  function itemTitle(item) {
    return item.group ? `${item.name} (${item.group})` : item.name;
  }

  // What was chosen, and is not shown yet.
  let waiting = 0;

  async function doing(work) {
    waiting += 1;
    try {
      await work();
    } catch (error) {
      fail(error);
    } finally {
      waiting -= 1;
    }
  }

  const pending = () => waiting;

  function fail(error) {
    const message = element("message");
    message.textContent = `This page cannot be shown: ${error.message || error}`;
    message.hidden = false;
    console.error(error);
  }

  // Header and controls that both kinds of pages have; `changed` is called with what was changed.
  function start(changed, move) {
    const things = index.kind === "volumes" ? "subjects" : "images";
    element("title").textContent = `${index.study}: ${index.dataset}`;
    element("summary").textContent = `${index.items.length} ${things}, ` +
      `${index.explanations.length} explanation${index.explanations.length === 1 ? "" : "s"}` +
      (index.left_out ? `; ${index.left_out} more ${things} are not in this page` : "");
    element("truth").closest("label").hidden = !index.has_truth;
    if (index.served) {
      // The largest of all would have to be computed first.
      element("scale").closest("label").hidden = true;
      element("source").textContent = "The data come from this computer: nothing is loaded from or sent to another one.";
    }
    element("version").textContent = index.preddiff;
    fill(element("item"), index.items.map((_, place) => String(place)), index.items.map(itemTitle));
    fill(element("colormap"), index.colormaps.map((one) => one.name), index.colormaps.map((one) => one.title));
    element("threshold").value = String(Math.round(index.threshold * 100));
    for (const id of ["threshold", "opacity"]) {
      const show = () => { element(`${id}-value`).textContent = `${element(id).value}%`; };
      element(id).addEventListener("input", show);
      show();
    }
    const step = (by) => {
      const place = element("item").selectedIndex + by;
      if (place < 0 || place >= index.items.length) return;
      element("item").selectedIndex = place;
      changed("item");
    };
    element("previous").addEventListener("click", () => step(-1));
    element("next").addEventListener("click", () => step(1));
    element("controls").addEventListener("submit", (event) => event.preventDefault());
    // Sliders while they move, all else once it is chosen.
    for (const type of ["input", "change"]) {
      element("controls").addEventListener(type, (event) => {
        if ((type === "input") === (event.target.type === "range")) changed(event.target.id);
      });
    }
    // Ahead of NiiVue, whose keys would do other things.
    const handled = (event) => {
      const tag = event.target.tagName;
      if (tag === "SELECT" || tag === "INPUT" || event.ctrlKey || event.altKey || event.metaKey) return;
      if (tag === "CANVAS" && event.key !== "Tab") event.stopPropagation();
      if (event.type === "keyup") return;
      const moves = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
        PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
      if (event.key === "n") step(1);
      else if (event.key === "p") step(-1);
      else if (moves[event.key]) { event.preventDefault(); move(...moves[event.key]); }
    };
    window.addEventListener("keydown", handled, true);
    window.addEventListener("keyup", handled, true);
  }

  function enableSteps() {
    const place = element("item").selectedIndex;
    element("previous").disabled = place <= 0;
    element("next").disabled = place >= index.items.length - 1;
  }

  const colormap = () => index.colormaps[element("colormap").selectedIndex];

  return { index, element, chosenItem, unpack, number, withUnit, fill, rows, colour, shown, drawScale, describeScale,
    explanationTitle, explanationFacts, itemTitle, doing, pending, start, enableSteps, colormap };
})();
