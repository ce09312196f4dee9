"use strict";
// Volumes: scan and relevance in three planes and in 3-D, drawn by NiiVue.
const volumes = (() => {
  const { index, element } = preddiff;
  const HEADER = 352;
  // A kind of colour map of NiiVue, which does not export its name.
  const FROM_ZERO_HIDDEN_BELOW_MIN = 2;
  const [NX, NY, NZ] = index.space;
  const SIDES = [0, 1, 2].map((n) => Math.hypot(...index.affine.slice(0, 3).map((row) => row[n])));
  // Millimetres around the crosshair that it leaves free, so that the voxel is seen.
  const GAP = 1.5 * Math.max(...SIDES);
  const inverse = inverted(index.affine);
  const panels = [];
  let scan = null;
  let linking = false;

  function inverted(affine) {
    const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine;
    const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    const m = [[e * i - f * h, c * h - b * i, b * f - c * e], [f * g - d * i, a * i - c * g, c * d - a * f],
      [d * h - e * g, b * g - a * h, a * e - b * d]].map((row) => row.map((value) => value / det));
    return (mm) => m.map((row) => row[0] * (mm[0] - x) + row[1] * (mm[1] - y) + row[2] * (mm[2] - z));
  }

  const voxelOf = (mm) => inverse(mm).map(Math.round);
  const mmOf = (voxel) => index.affine.slice(0, 3).map((row) =>
    row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);

  // A NIfTI-1 file of the whole grid.
  function nifti(codes, isShort, slope) {
    const buffer = new ArrayBuffer(HEADER + codes.byteLength);
    const view = new DataView(buffer);
    const int16 = (place, ...values) => values.forEach((v, n) => view.setInt16(place + 2 * n, v, true));
    const float32 = (place, ...values) => values.forEach((v, n) => view.setFloat32(place + 4 * n, v, true));
    view.setInt32(0, 348, true);
    int16(40, 3, NX, NY, NZ, 1, 1, 1, 1);
    int16(70, isShort ? 4 : 2, isShort ? 16 : 8);
    float32(76, 1, ...SIDES, 1, 1, 1, 1);
    float32(108, HEADER, slope, 0);
    int16(252, 0, 2);
    float32(280, ...index.affine.slice(0, 3).flat());
    [0x6e, 0x2b, 0x31, 0].forEach((byte, n) => view.setUint8(344 + n, byte));
    new (isShort ? Int16Array : Uint8Array)(buffer, HEADER).set(codes);
    return buffer;
  }

  // Voxels of a mask of which a neighbour is not in it.
  function outline(mask) {
    const found = new Uint8Array(mask.codes.length);
    const steps = [1, NX, NX * NY];
    const sides = [NX, NY, NZ];
    mask.codes.forEach((code, place) => {
      if (!code) return;
      const voxel = [place % NX, Math.floor(place / NX) % NY, Math.floor(place / steps[2])];
      const isEdge = voxel.some((v, n) => v === 0 || v === sides[n] - 1 || !mask.codes[place - steps[n]] || !mask.codes[place + steps[n]]);
      if (isEdge) found[place] = 1;
    });
    return found;
  }

  // Relevance on the whole grid, as shares of the map's largest magnitude; 0 where it is unknown.
  function overlay(map, explanation) {
    const whole = new Int16Array(NX * NY * NZ);
    const [cx, cy, cz] = explanation.corner;
    const [nx, ny, nz] = explanation.space;
    let place = 0;
    for (let z = 0; z < nz; z += 1) {
      for (let y = 0; y < ny; y += 1) {
        const start = cx + NX * (cy + y + NY * (cz + z));
        for (let x = 0; x < nx; x += 1, place += 1) {
          const code = map.codes[place];
          if (code !== map.missing) whole[start + x] = code;
        }
      }
    }
    return nifti(whole, true, 1 / 32767);
  }

  const gridPlace = (voxel) => voxel[0] + NX * (voxel[1] + NY * voxel[2]);

  // Place of a voxel in the arrays of an explanation; -1 outside the classifier's input.
  function placeOf(voxel, explanation) {
    const inside = voxel.map((v, n) => v - explanation.corner[n]);
    const { space } = explanation;
    if (inside.some((v, n) => v < 0 || v >= space[n])) return -1;
    return inside[0] + space[0] * (inside[1] + space[1] * inside[2]);
  }

  async function image(buffer, name, colormap, high) {
    const made = await niivue.NVImage.new(buffer, name, colormap, 1, null, 0, high);
    made.cal_min = 0;
    made.cal_max = high;
    return made;
  }

  async function makePanel(section, number) {
    const panel = { section, number, canvas: section.querySelector("canvas"), map: null, error: null, about: null, version: 0 };
    panel.explanationSelect = section.querySelector(".explanation");
    panel.targetSelect = section.querySelector(".target");
    preddiff.fill(panel.explanationSelect, index.explanations.map((_, n) => String(n)),
      index.explanations.map(preddiff.explanationTitle));
    panel.explanationSelect.selectedIndex = Math.min(number, index.explanations.length - 1);
    panel.explanationSelect.addEventListener("change", () => { fillTargets(panel); preddiff.doing(() => show(panel)); });
    panel.targetSelect.addEventListener("change", () => preddiff.doing(() => show(panel)));
    fillTargets(panel);
    const nv = new niivue.Niivue({
      logLevel: "error", dragAndDropEnabled: false, loadingText: "", backColor: [0, 0, 0, 1], fontColor: [1, 1, 1, 1],
      crosshairColor: [1, 0.9, 0, 1], crosshairWidth: 0.4, crosshairWidthUnit: "percent", crosshairGap: GAP, show3Dcrosshair: true, isColorbar: false, isNearestInterpolation: true,
      showAllOrientationMarkers: true, dragMode: niivue.DRAG_MODE.pan, multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
      tileMargin: 4,
    });
    panel.nv = nv;
    await nv.attachToCanvas(panel.canvas, false);
    for (const map of index.colormaps) {
      const middle = (map.colours.length - 1) / 2;
      nv.addColormap(`${map.name} for`, half(map.colours.slice(middle)));
      nv.addColormap(`${map.name} against`, half(map.colours.slice(0, middle + 1).reverse()));
    }
    // Black where there is none: NiiVue blends neighbours in 3-D, whether transparent or not.
    nv.addColormap("truth", { R: [0, 0], G: [0, 255], B: [0, 0], A: [0, 255], I: [0, 255] });
    nv.addColormap("nothing", { R: [0, 0], G: [0, 0], B: [0, 0], A: [0, 0], I: [0, 255] });
    nv.onLocationChange = (location) => {
      readOut(panel, location.mm);
      link(panel);
    };
    setView(panel);
    panels.push(panel);
    return panel;
  }

  // Colours from no relevance, which is transparent, to the largest.
  function half(colours) {
    const steps = colours.length - 1;
    const nodes = colours.map((colour, n) => [colour, n === 0 ? 1 : Math.round(n / steps * 255)]);
    nodes.unshift([colours[0], 0]);
    return { R: nodes.map(([c]) => c[0]), G: nodes.map(([c]) => c[1]), B: nodes.map(([c]) => c[2]),
      A: nodes.map((_, n) => (n ? 255 : 0)), I: nodes.map(([, i]) => i) };
  }

  function fillTargets(panel) {
    const { targets } = explanationOf(panel);
    preddiff.fill(panel.targetSelect, targets.map((_, n) => String(n)), targets.map((one) => one.name));
  }

  const explanationOf = (panel) => index.explanations[panel.explanationSelect.selectedIndex];
  const targetOf = (panel) => explanationOf(panel).targets[panel.targetSelect.selectedIndex];

  function aboutMap(panel, of) {
    const maps = of.maps[panel.explanationSelect.selectedIndex];
    return maps ? maps[panel.targetSelect.selectedIndex] : null;
  }

  // The largest magnitude that the colours reach.
  function limitOf(panel) {
    const own = panel.about ? panel.about.relevance.limit : 0;
    if (element("scale").value === "own") return own || 1;
    const all = index.items.map((one) => aboutMap(panel, one)).filter(Boolean).map((about) => about.relevance.limit);
    return Math.max(own, ...all) || 1;
  }

  async function show(panel) {
    panel.version += 1;
    const { version } = panel;
    const of = await preddiff.chosenItem();
    if (version !== panel.version) return;
    const about = aboutMap(panel, of);
    const explanation = explanationOf(panel);
    const target = targetOf(panel);
    const [map, error] = about ? await Promise.all([preddiff.unpack(about.relevance), preddiff.unpack(about.error)]) : [null, null];
    const [loaded, truth] = await Promise.all([scanOf(of), preddiff.unpack(of.truth)]);
    const made = [await image(nifti(loaded.codes, false, 1), "scan.nii", "gray", whiteOf(of))];
    if (map) made.push(await image(overlay(map, explanation), "relevance.nii", "gray", 1));
    if (truth) made.push(await image(nifti(outline(truth), false, 1), "truth.nii", "truth", 1));
    // Another subject or explanation was chosen meanwhile.
    if (version !== panel.version || panel.section.hidden) return;
    const first = panel.nv.volumes.length === 0 && panels.every((one) => one.nv.volumes.length === 0);
    const { crosshairPos } = panel.nv.scene;
    Object.assign(panel, { map, error, truth, about, explanation, target, scan: loaded, item: of });
    panel.nv.volumes = [];
    for (const one of made) panel.nv.addVolume(one);
    panel.nv.scene.crosshairPos = crosshairPos;
    panel.section.querySelector(".label").textContent = label(panel);
    colours(panel);
    if (first) toPeak(panel);
    else if (panels.length > 1) link(panels.find((one) => one !== panel));
    refresh(panel);
  }

  function label(panel) {
    const of = preddiff.itemTitle(panel.item);
    if (!panel.about) return `${of}: not explained by ${panel.explanation.name}`;
    const facts = preddiff.explanationFacts(panel.explanation);
    return [`${of}: ${panel.about.label}`, ...panel.item.facts, facts].filter(Boolean).join("; ");
  }

  async function scanOf(of) {
    if (scan === null || scan.of !== of) scan = { of, promise: preddiff.unpack(of.picture) };
    return scan.promise;
  }

  // Code of the scan that is shown white.
  const whiteOf = (of) => Math.max(1, (of.white - of.picture.offset) / of.picture.scale);

  function colours(panel) {
    const relevance = panel.nv.volumes.find((one) => one.name === "relevance.nii");
    const truth = panel.nv.volumes.find((one) => one.name === "truth.nii");
    if (truth) truth.opacity = element("truth").checked ? 1 : 0;
    const threshold = Number(element("threshold").value) / 100;
    const sign = element("sign").value;
    const map = preddiff.colormap();
    const limit = limitOf(panel);
    if (relevance) {
      const share = limit / panel.about.relevance.limit || 1;
      relevance.colormapType = FROM_ZERO_HIDDEN_BELOW_MIN;
      relevance.colormap = sign === "against" ? "nothing" : `${map.name} for`;
      relevance.colormapNegative = sign === "for" ? "nothing" : `${map.name} against`;
      // After the colour maps, which reset them.
      relevance.cal_min = threshold * share;
      relevance.cal_max = share;
      relevance.opacity = Number(element("opacity").value) / 100;
    }
    panel.nv.updateGLVolume();
    const [bar, text] = panel.section.querySelector(".scale").children;
    preddiff.drawScale(bar, map, threshold, sign);
    text.textContent = preddiff.describeScale(limit, threshold, targetOf(panel));
  }

  function setView(panel) {
    const types = niivue.SLICE_TYPE;
    const view = element("view").value;
    panel.nv.opts.multiplanarShowRender = view === "all" ? niivue.SHOW_RENDER.ALWAYS : niivue.SHOW_RENDER.NEVER;
    panel.nv.setSliceType({ sagittal: types.SAGITTAL, coronal: types.CORONAL, axial: types.AXIAL, render: types.RENDER }[view] ??
      types.MULTIPLANAR);
  }

  // The other panel shows the same place.
  function link(panel) {
    if (linking) return;
    linking = true;
    for (const other of panels) {
      if (other !== panel && !other.section.hidden && other.nv.volumes.length) {
        other.nv.scene.crosshairPos = panel.nv.scene.crosshairPos.slice();
        refresh(other);
      }
    }
    linking = false;
  }

  function refresh(panel) {
    readOut(panel, panel.nv.frac2mm(panel.nv.scene.crosshairPos, 0, true));
    panel.nv.drawScene();
  }

  function goTo(panel, voxel) {
    panel.nv.scene.crosshairPos = panel.nv.mm2frac(mmOf(voxel), 0, true);
    refresh(panel);
    link(panel);
  }

  function toPeak(panel) {
    if (!panel.map) return;
    const sign = element("sign").value;
    let best = -1;
    let largest = -1;
    panel.map.codes.forEach((code, place) => {
      const size = code === panel.map.missing ? -1 : sign === "both" ? Math.abs(code) : sign === "for" ? code : -code;
      if (size > largest) { largest = size; best = place; }
    });
    if (best < 0) return;
    const [nx, ny] = panel.explanation.space;
    const inside = [best % nx, Math.floor(best / nx) % ny, Math.floor(best / (nx * ny))];
    goTo(panel, inside.map((v, n) => v + panel.explanation.corner[n]));
  }

  function readOut(panel, mm) {
    if (!panel.scan) return;
    const voxel = voxelOf(mm);
    const inGrid = voxel.every((v, n) => v >= 0 && v < index.space[n]);
    const place = panel.map ? placeOf(voxel, panel.explanation) : -1;
    const pairs = [
      ["Position", `${[0, 1, 2].map((n) => mm[n].toFixed(1).replace("-", "\u2212")).join(", ")} mm`],
      ["Voxel", voxel.join(", ")],
      ["Scan", inGrid ? preddiff.number(panel.scan.value(gridPlace(voxel))) : "outside"],
    ];
    if (panel.map) {
      const { unit } = panel.target;
      const value = place < 0 ? NaN : panel.map.value(place);
      const share = Number.isFinite(value) && panel.map.limit ? ` (${Math.round(100 * Math.abs(value) / panel.map.limit)}% of the largest)` : "";
      pairs.push(["Relevance", place < 0 ? "outside the classifier's input" : preddiff.withUnit(value, unit) + share]);
      const title = panel.explanation.error || "standard error";
      pairs.push([title[0].toUpperCase() + title.slice(1),
        place < 0 ? "\u2013" : panel.error ? preddiff.withUnit(panel.error.value(place), unit) : "0 (exact, or unknown)"]);
    }
    if (panel.truth) pairs.push(["Known lesion", inGrid && panel.truth.value(gridPlace(voxel)) ? "inside" : "outside"]);
    preddiff.rows(panel.section.querySelector("tbody"), pairs);
  }

  async function compare(wanted) {
    const section = document.querySelectorAll(".panel")[1];
    if (!wanted) {
      // NiiVue would draw into a view of no size.
      for (const panel of panels) panel.nv.broadcastTo([]);
      panels[1].nv.volumes = [];
      panels[1].nv.updateGLVolume();
    }
    section.hidden = !wanted;
    if (wanted) {
      const second = panels[1] || await makePanel(section, 1);
      panels[0].nv.broadcastTo(second.nv, { "2d": true, "3d": true });
      second.nv.broadcastTo(panels[0].nv, { "2d": true, "3d": true });
      setRadiological(second);
      setView(second);
      second.nv.resizeListener();
      await show(second);
    }
    panels[0].nv.resizeListener();
  }

  const setRadiological = (panel) => panel.nv.setRadiologicalConvention(element("radiological").checked);
  const open = () => panels.filter((panel) => !panel.section.hidden);

  async function changed(id) {
    if (id === "item") {
      preddiff.enableSteps();
      await Promise.all(open().map(show));
    } else if (id === "compare") await compare(element("compare").checked);
    else if (id === "view") open().forEach(setView);
    else if (id === "radiological") open().forEach(setRadiological);
    else open().forEach(colours);
  }

  function move(...by) {
    const [panel] = panels;
    panel.nv.moveCrosshairInVox(...by);
    link(panel);
  }

  async function start() {
    preddiff.start((id) => preddiff.doing(() => changed(id)), move);
    preddiff.enableSteps();
    element("compare").disabled = index.explanations.length < 2 && index.explanations[0].targets.length < 2;
    element("peak").addEventListener("click", () => toPeak(panels[0]));
    await makePanel(document.querySelector(".panel"), 0);
    await show(panels[0]);
    document.body.dataset.ready = "true";
  }

  preddiff.doing(start);
  return { panels, goTo, voxelOf };
})();
