// Explore a student. All that is shown is in `state`, which is in the address as well: whoever opens
// the same address sees the same samples.

const $ = (id) => document.getElementById(id);
const COUNTS = [1, 4, 9, 16, 36, 64];
const START = {
  model: "", seed: 0, count: 16, class: null, with: null, mix: 0,
  to: null, t: 0, in: "latent", moves: {}, teacher: false,
};
const MOST_SEED = 9007199254740000;
const DOTS = 256, BARS = 32;

let state = { ...START, moves: {} };
let about = null;
let zoomed = null; // The seeds to go back to when a picture is made small again.

// ---- The address ----

function toAddress() {
  const said = new URLSearchParams();
  for (const key of ["model", "seed", "count", "class", "with", "mix", "to", "t", "in"]) {
    if (state[key] !== null && state[key] !== START[key]) said.set(key, state[key]);
  }
  for (const [name, strength] of Object.entries(state.moves)) said.set(name, strength);
  if (state.teacher) said.set("teacher", 1);
  history.replaceState(null, "", "#" + said);
}

const whole = (text, most) => {
  const n = Number(text);
  return Number.isInteger(n) && n >= 0 && n <= most ? n : null;
};
const within = (text, least, most) => {
  const x = Number(text);
  return Number.isFinite(x) ? Math.min(most, Math.max(least, x)) : 0;
};

function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const found = { ...START, moves: {} };
  found.model = said.get("model") ?? "";
  if (said.has("seed")) found.seed = whole(said.get("seed"), MOST_SEED) ?? 0;
  if (COUNTS.includes(Number(said.get("count")))) found.count = Number(said.get("count"));
  for (const key of ["class", "with"]) if (said.has(key)) found[key] = whole(said.get(key), 1e9);
  if (said.has("to")) found.to = whole(said.get("to"), MOST_SEED);
  found.mix = within(said.get("mix"), 0, 1);
  found.t = within(said.get("t"), 0, 1);
  if (said.get("in") === "noise") found.in = "noise";
  found.teacher = said.has("teacher");
  for (const [name, strength] of said) {
    if (/^[mp][1-9][0-9]*$/.test(name)) found.moves[name] = within(strength, -3, 3);
  }
  return found;
}

// ---- The server ----

async function ask(path, body, signal) {
  for (;;) {
    const headers = {};
    const token = sessionStorage.getItem("token");
    if (token) headers.Authorization = "Bearer " + token;
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, {
      method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body),
    });
    if (answer.status === 401) { await askForToken(); continue; }
    if (answer.status === 429) {
      const seconds = Number(answer.headers.get("Retry-After") ?? 1);
      await new Promise((done) => setTimeout(done, 1000 * Math.min(seconds, 10)));
      continue;
    }
    if (!answer.ok) {
      const told = await answer.json().catch(() => null);
      const error = told?.error;
      throw new Error(error ? (error.field ? error.field + ": " : "") + error.message : answer.statusText);
    }
    return answer;
  }
}

function askForToken() {
  return new Promise((done) => {
    const box = $("ask");
    box.addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value);
      done();
    }, { once: true });
    box.showModal();
  });
}

// ---- What is asked for ----

const isPlain = () => state.to === null && !mixes() && moved().length === 0;
const mixes = () => state.class !== null && state.with !== null && state.mix > 0;
const moved = () => Object.entries(state.moves).filter(([, strength]) => strength !== 0);

function request() {
  const body = { model: state.model, first_seed: state.seed, count: state.count, format: "png" };
  body.columns = Math.round(Math.sqrt(state.count));
  if (mixes()) {
    body.mix = {};
    body.mix[state.class] = 1 - state.mix;
    body.mix[state.with] = (body.mix[state.with] ?? 0) + state.mix;
  } else if (state.class !== null) {
    body.class = state.class;
  }
  if (state.to !== null) {
    body.way = { seed: state.to, t: state.t, in: state.in };
    if (mixes()) body.way.class = state.class;
  }
  body.moves = moved().map(([name, strength]) => ({
    [name[0] === "m" ? "mode" : "principal"]: Number(name.slice(1)), strength,
  }));
  return body;
}

// ---- Drawing: one request at a time, the latest wish next ----

let busy = false, again = false, lastPicture = null;

async function draw() {
  toAddress();
  if (!about) return;
  if (busy) { again = true; return; }
  busy = true;
  $("pictures").setAttribute("aria-busy", "true");
  // Said where it takes long enough to be wondered at.
  const slow = setTimeout(() => { $("caption").textContent = "Drawing ..."; }, 400);
  do {
    again = false;
    const began = performance.now();
    try {
      const blob = await (await ask("v1/samples", request())).blob();
      lastPicture = blob;
      await show(blob, $("grid"), $("points"), state.count);
      const ms = Math.round(performance.now() - began);
      const seeds = state.count === 1 ? `seed ${state.seed}` : `seeds ${state.seed} to ${state.seed + state.count - 1}`;
      $("caption").textContent = `Student, one pass: ${seeds}, ${ms} ms`;
      say("");
    } catch (error) { say(error.message); }
  } while (again);
  clearTimeout(slow);
  if ($("caption").textContent.endsWith("...")) $("caption").textContent = "";
  busy = false;
  $("pictures").setAttribute("aria-busy", "false");
  drawTeacher();
}

let teacherWait = 0, teacherStop = null;

function drawTeacher() {
  clearTimeout(teacherWait);
  teacherStop?.abort();
  const shown = state.teacher && about?.teacher_evaluations != null;
  $("teacher-figure").hidden = !shown;
  if (!shown) return;
  if (!isPlain()) {
    $("teacher-caption").textContent = "A teacher draws plain samples alone: no mix, way or move";
    staleTeacher(true);
    return;
  }
  staleTeacher(true);
  teacherWait = setTimeout(async () => {
    const stop = teacherStop = new AbortController();
    const began = performance.now();
    $("teacher-caption").textContent = "The teacher draws ...";
    try {
      const body = { ...request(), source: "teacher" };
      const blob = await (await ask("v1/samples", body, stop.signal)).blob();
      await show(blob, $("teacher-grid"), $("teacher-points"), body.count);
      staleTeacher(false);
      const ms = Math.round(performance.now() - began);
      $("teacher-caption").textContent = `Teacher, ${about.teacher_evaluations} passes: the same noise, ${ms} ms`;
    } catch (error) {
      if (!stop.signal.aborted) $("teacher-caption").textContent = error.message;
    }
  }, 300);
}

// What the teacher drew is of other seeds than those that are shown now.
const staleTeacher = (stale) => $("teacher-figure").firstElementChild.classList.toggle("stale", stale);

// Images lie in the server's picture with gaps of 2 pixels; here gaps are a sixteenth of an image.
async function show(blob, canvas, img, count) {
  const isImage = about.shape.length === 3;
  canvas.hidden = !isImage;
  img.hidden = isImage;
  if (!isImage) {
    URL.revokeObjectURL(img.src);
    img.src = URL.createObjectURL(blob);
    return;
  }
  const [, height, width] = about.shape;
  const side = Math.round(Math.sqrt(count));
  const picture = await createImageBitmap(blob);
  const scale = Math.max(1, Math.round(512 / (side * width)));
  const gap = side > 1 ? Math.max(1, Math.round(width * scale / 16)) : 0;
  const [across, down] = [width * scale + gap, height * scale + gap];
  canvas.width = side * across - gap;
  canvas.height = side * down - gap;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  for (let i = 0; i < count; i++) {
    const [x, y] = [i % side, Math.floor(i / side)];
    pen.drawImage(picture, x * (width + 2), y * (height + 2), width, height,
      x * across, y * down, width * scale, height * scale);
  }
}

const say = (text) => { $("message").textContent = text; };

// ---- Controls ----

function pressed(box, isOn) {
  for (const button of box.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(isOn(button)));
  }
}

function button(box, text, value, click) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.dataset.value = value;
  made.addEventListener("click", click);
  box.append(made);
}

const className = (i) => about.class_names[i] ?? `class ${i}`;

function showControls() {
  $("model").value = state.model;
  $("seed").value = state.seed;
  $("seed-range").value = Math.min(state.seed, 999);
  pressed($("counts"), (b) => Number(b.dataset.value) === state.count);
  pressed($("classes"), (b) => b.dataset.value === String(state.class ?? ""));
  $("with").value = String(state.with ?? "");
  $("mix").value = state.mix;
  $("mix-row").hidden = state.class === null;
  $("mix").disabled = state.with === null;
  $("mix-told").textContent = Math.round(100 * state.mix) + "%";
  $("way").checked = state.to !== null;
  $("to").disabled = $("space").disabled = $("t").disabled = state.to === null;
  if (state.to !== null) $("to").value = state.to;
  $("t").value = state.t;
  $("t-told").textContent = state.t.toFixed(2);
  $("space").value = state.in;
  $("teacher").checked = state.teacher;
  showMoves();
}

function change(what) {
  Object.assign(state, what);
  showControls();
  draw();
}

function seeds(first) {
  zoomed = null;
  change({ seed: Math.min(MOST_SEED, Math.max(0, first)) });
}

// A field that takes a seed: what is none is told beside it, and what is shown stays.
function seedField(id, take) {
  const field = $(id);
  const fault = (text) => {
    field.setAttribute("aria-invalid", String(text !== ""));
    $(id + "-fault").textContent = text;
  };
  field.addEventListener("input", () => {
    const seed = field.value === "" ? null : whole(field.value, MOST_SEED);
    fault(seed === null ? `Give a whole number from 0 to ${MOST_SEED}.` : "");
    if (seed !== null) take(seed);
  });
  // Left with a fault in it, it shows again what is drawn.
  field.addEventListener("blur", () => { if (field.getAttribute("aria-invalid") === "true") { fault(""); showControls(); } });
}

function setUp() {
  for (const count of COUNTS) {
    button($("counts"), String(count), count, () => { zoomed = null; change({ count }); });
  }
  $("model").addEventListener("change", () => { state.model = $("model").value; load(); });
  seedField("seed", seeds);
  $("seed-range").addEventListener("input", () => seeds(Number($("seed-range").value)));
  $("previous").addEventListener("click", () => seeds(state.seed - state.count));
  $("next").addEventListener("click", () => seeds(state.seed + state.count));
  $("random").addEventListener("click", () => seeds(Math.floor(1e9 * Math.random())));
  $("with").addEventListener("change", () => {
    const other = $("with").value === "" ? null : Number($("with").value);
    change({ with: other, mix: other === null ? 0 : state.mix || 0.5 });
  });
  $("mix").addEventListener("input", () => change({ mix: Number($("mix").value) }));
  $("way").addEventListener("change", () => {
    const to = whole($("to").value || state.seed + 1, MOST_SEED);
    change($("way").checked ? { to, t: state.t || 0.5 } : { to: null });
  });
  seedField("to", (to) => change({ to }));
  $("t").addEventListener("input", () => change({ t: Number($("t").value) }));
  $("space").addEventListener("change", () => change({ in: $("space").value }));
  $("teacher").addEventListener("change", () => change({ teacher: $("teacher").checked }));
  $("reset").addEventListener("click", () => {
    zoomed = null;
    change({ ...START, moves: {}, model: state.model });
  });
  $("save").addEventListener("click", () => {
    if (!lastPicture) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(lastPicture);
    link.download = `${state.model}-${state.seed}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  $("share").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      say("The link is copied.");
    } catch { say("Copy the address of this page: it holds all that is chosen."); }
  });
  // A click shows one sample alone, and another click all of them again.
  $("grid").addEventListener("click", (event) => {
    if (zoomed) { const back = zoomed; zoomed = null; change(back); return; }
    if (state.count === 1) return;
    const side = Math.round(Math.sqrt(state.count)), box = $("grid").getBoundingClientRect();
    const place = (at, from, size) => Math.min(side - 1, Math.max(0, Math.floor(side * (at - from) / size)));
    const i = place(event.clientY, box.top, box.height) * side + place(event.clientX, box.left, box.width);
    zoomed = { seed: state.seed, count: state.count };
    change({ seed: state.seed + i, count: 1 });
  });
  window.addEventListener("hashchange", () => {
    const found = fromAddress();
    const other = found.model && found.model !== state.model;
    state = { ...found, model: found.model || state.model };
    if (other) load(); else { showControls(); draw(); }
  });
}

// ---- Directions ----

const SVG = "http://www.w3.org/2000/svg";

function drawn(box, kind, attributes, title) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (title) made.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: title }));
  box.append(made);
  return made;
}

const label = (name) => (name[0] === "m" ? "mode " : "principal ") + name.slice(1);

function toggle(name) {
  const moves = { ...state.moves };
  if (name in moves) delete moves[name]; else moves[name] = 1;
  change({ moves });
}

// `first`: whether it can be reached by the Tab key; all can be clicked.
function choosable(dot, name, first) {
  dot.dataset.name = name;
  dot.classList.add("dot");
  dot.addEventListener("click", () => toggle(name));
  if (!first) return;
  dot.setAttribute("tabindex", 0);
  dot.setAttribute("role", "button");
  dot.setAttribute("aria-label", label(name));
  dot.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(name); }
  });
}

function showSpectrum() {
  const box = $("spectrum"), modes = about.modes.slice(0, DOTS);
  box.replaceChildren();
  box.setAttribute("viewBox", "0 0 200 200");
  const most = 1.08 * Math.max(1, ...modes.map((m) => Math.hypot(m.re, m.im)));
  const at = (x) => 100 + 92 * x / most;
  drawn(box, "line", { x1: 4, x2: 196, y1: 100, y2: 100, class: "axis" });
  drawn(box, "line", { y1: 4, y2: 196, x1: 100, x2: 100, class: "axis" });
  drawn(box, "circle", { cx: 100, cy: 100, r: at(1) - 100, class: "axis" });
  drawn(box, "text", { x: at(1) + 2, y: 98 }).textContent = "1";
  drawn(box, "text", { x: 174, y: 112 }).textContent = "Re";
  drawn(box, "text", { x: 103, y: 12 }).textContent = "Im";
  const largest = Math.max(...modes.map((m) => m.amplitude), 1e-30);
  // The one that carries most comes last, on top.
  for (const mode of modes.slice().reverse()) {
    const told = `mode ${mode.rank}: ${mode.re.toFixed(3)}${mode.im ? " ± " + Math.abs(mode.im).toFixed(3) + "i" : ""}`;
    const r = 2 + 5 * Math.sqrt(mode.amplitude / largest);
    for (const sign of mode.im ? [-1, 1] : [1]) {
      const dot = drawn(box, "circle", { cx: at(mode.re), cy: at(-sign * mode.im), r }, told);
      choosable(dot, "m" + mode.rank, mode.rank <= 8 && sign === 1);
    }
  }
}

function showPrincipal() {
  const box = $("principal"), bars = about.principal.slice(0, BARS);
  box.replaceChildren();
  box.setAttribute("viewBox", "0 0 200 200");
  drawn(box, "line", { x1: 4, x2: 196, y1: 184, y2: 184, class: "axis" });
  drawn(box, "text", { x: 6, y: 197 }).textContent = "1";
  drawn(box, "text", { x: 182, y: 197 }).textContent = String(bars.length);
  const most = Math.max(...bars.map((b) => b.deviation), 1e-30), width = 192 / bars.length;
  bars.forEach((bar, i) => {
    const height = Math.max(1.5, 172 * bar.deviation / most);
    const told = `principal direction ${bar.rank}: ${(100 * bar.share).toFixed(1)}% of the variance`;
    const made = drawn(box, "rect", {
      x: 4 + i * width + 0.5, width: Math.max(1, width - 1), y: 184 - height, height,
    }, told);
    choosable(made, "p" + bar.rank, bar.rank <= 8);
  });
}

function showMoves() {
  for (const dot of document.querySelectorAll("svg .dot")) {
    dot.classList.toggle("on", dot.dataset.name in state.moves);
  }
  const box = $("moves");
  const shown = [...box.children].map((row) => row.dataset.name).join();
  if (shown !== Object.keys(state.moves).join()) {
    box.replaceChildren(...Object.keys(state.moves).map(moveRow));
  }
  for (const row of box.children) {
    const strength = state.moves[row.dataset.name];
    row.querySelector("input").value = strength;
    row.querySelector("output").textContent = (strength > 0 ? "+" : "") + strength.toFixed(1);
  }
}

function moveRow(name) {
  const row = document.createElement("div");
  row.className = "move";
  row.dataset.name = name;
  const slider = Object.assign(document.createElement("input"), { type: "range", min: -3, max: 3, step: 0.1 });
  slider.setAttribute("aria-label", "Strength along " + label(name));
  slider.addEventListener("input", () => {
    change({ moves: { ...state.moves, [name]: Number(slider.value) } });
  });
  const told = document.createElement("span");
  told.textContent = label(name);
  row.append(told, slider, document.createElement("output"));
  button(row, "×", name, () => toggle(name));
  row.lastChild.setAttribute("aria-label", "Remove " + label(name));
  return row;
}

// ---- Loading ----

async function load() {
  $("pictures").setAttribute("aria-busy", "true");
  about = await (await ask("v1/models/" + encodeURIComponent(state.model))).json();
  const [koopman, classes] = [about.method === "koopman", about.classes];
  $("facts").textContent = [
    about.shape.length === 3 ? `${about.shape[2]}×${about.shape[1]} ${about.shape[0] === 1 ? "grey" : "colour"} images` : `points, ${about.shape[0]} numbers`,
    classes ? `${classes} classes` : "unconditional",
    koopman ? `latent dimension ${about.latent_dim}` : "a direct student",
  ].join(" · ");
  $("class-box").hidden = classes === 0;
  $("way-box").hidden = $("directions-box").hidden = !koopman;
  $("teacher-box").hidden = about.teacher_evaluations == null;
  $("teacher-hint").textContent = `${about.teacher_evaluations} network passes a sample, where the student takes one`;
  if (classes === 0 || state.class >= classes) state.class = null;
  if (state.class === null || state.with >= classes) state.with = null;
  for (const name of Object.keys(state.moves)) {
    const known = name[0] === "m" ? about.modes : about.principal;
    if (Number(name.slice(1)) > known.length) delete state.moves[name];
  }
  $("classes").replaceChildren();
  button($("classes"), "each seed's own", "", () => change({ class: null, with: null, mix: 0 }));
  $("with").replaceChildren(new Option("no other", ""));
  for (let i = 0; i < classes; i++) {
    button($("classes"), className(i), i, () => change({ class: i }));
    $("with").append(new Option(className(i), i));
  }
  const known = about.modes.length > 0;
  $("directions-hint").textContent = known
    ? "Choose an eigenvalue or a principal direction and drag: one unit is one standard deviation of the latents along it."
    : "The modes of this model are not known here.";
  document.querySelector(".spectra").hidden = !known;
  if (known) { showSpectrum(); showPrincipal(); }
  showControls();
  draw();
}

async function begin() {
  setUp();
  state = fromAddress();
  try {
    const { models } = await (await ask("v1/models")).json();
    $("model").replaceChildren(...models.map((m) => new Option(m.name, m.name)));
    if (!models.some((m) => m.name === state.model)) state.model = models[0].name;
    await load();
  } catch (error) { say(error.message); }
}

begin();
