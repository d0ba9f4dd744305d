// The page: what is chosen, and what is told of it. Texts of files are put in as text, never as HTML.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($('data').textContent);
// The first picture stands in the page itself, to be seen before any script runs.
for (const { pictures } of data.scenes) for (const picture of pictures) picture.uri ??= $('first').src;
const RAMPS = Object.fromEntries(Object.entries(data.ramps).map(([name, text]) => [name, bytesOf(text)]));
const captures = data.scenes.map((told) => new Capture(told, RAMPS));
const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
const state = { mode: 'look', alone: null, first: null, second: null, playing: !calm, speed: 3, frame: 0, focus: null, widening: 1, method: 0, sway: !calm, draws: 0 };
const KEYS = {
  '1 ... 5': 'what is shown', 'arrows': 'move the cursor; with Shift by 10 px', '+ - 0': 'enlarge, reduce, whole picture',
  '[ ]': 'confidence from', 'Space': 'play and pause; in refocus: focus at the cursor', 'p': 'draw a line, or take it away',
  'mouse': 'wheel enlarges, drag moves, Shift and drag draws a line', 'touch': 'two fingers enlarge, one moves',
};
let capture = captures[0], refocus = null, space = null, settle = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function say(text) {
  $('message').hidden = !text;
  $('message').textContent = text ?? '';
}

const stage = new Stage($('stage'), $('canvas'), {
  hover: () => tell(),
  tap: (x, y) => { if (state.mode === 'refocus') focusAt(x, y); },
  line: () => profile(),
  split: (share) => { if ($('split')) $('split').value = share; },
});

const pixelOf = (x, y) => [x * capture.told.columns / capture.told.width - 0.5, y * capture.told.rows / capture.told.height - 0.5];
const layer = (key) => capture.layers.find((known) => known.key === key) ?? null;
const confidenceOf = (shown) => shown?.kind === 'map' && !['confidence', 'truth'].includes(shown.name) ? capture.map(shown.number, 'confidence') : null;
const shownLayers = () => ({ look: [state.alone], compare: [state.first, state.second] }[state.mode] ?? []).map(layer).filter(Boolean);
const hasMaps = () => capture.told.estimates.length > 0;

// ---- modes

const MODES = {
  look: ['Look', () => capture.layers.length > 0],
  compare: ['Compare', () => capture.layers.length > 1],
  wiggle: [null, () => capture.told.views.length > 1],
  refocus: ['Refocus', () => capture.told.estimates.some((e, n) => e.defocus && capture.sharpName(n))],
  points: ['3-D', () => capture.told.estimates.length > 0],
};

function modes() {
  const label = (mode) => MODES[mode][0] ?? (capture.told.kind === 'stack' ? 'Frames' : 'Left / right');
  $('modes').replaceChildren(...Object.keys(MODES).filter((mode) => MODES[mode][1]()).map((mode) => element('button', {
    textContent: label(mode), role: 'tab', ariaSelected: String(mode === state.mode), onclick: () => choose(mode),
  })));
}

async function choose(mode) {
  if (!MODES[mode]?.[1]()) return;
  state.mode = mode;
  modes();
  $('space').hidden = mode !== 'points';
  $('canvas').hidden = mode === 'points';
  stage.comparing = mode === 'compare';
  stage.mark = null;
  say(null);
  TOOLS[mode]();
  await show();
}

// ---- tools of each mode

function chooser(id, label, chosen, onchange, layers = capture.layers) {
  const select = element('select', { id, onchange: (event) => onchange(event.target.value) });
  select.append(...layers.map(({ key, label: text }) => element('option', { value: key, textContent: text, selected: key === chosen })));
  return element('label', {}, label, select);
}

function slider(id, label, range, value, text, oninput) {
  const output = element('output', { textContent: text(value) });
  const input = element('input', { id, type: 'range', ...range, value });
  input.oninput = () => { output.textContent = text(Number(input.value)); oninput(Number(input.value)); };
  return element('label', {}, label, input, output);
}

function toggle(id, label, pressed, onclick) {
  const button = element('button', { id, textContent: label, ariaPressed: String(pressed) });
  button.onclick = () => { const now = button.ariaPressed !== 'true'; button.ariaPressed = String(now); onclick(now); };
  return button;
}

function lineTool() {
  return toggle('line', 'Line', stage.drawing, (on) => {
    stage.drawing = on;
    if (!on) { stage.line = null; $('profile-card').hidden = true; stage.draw(); }
    else if (!stage.line && state.mode !== 'points') {
      const [width, height] = stage.size;
      stage.line = [[width * 0.1, height / 2], [width * 0.9, height / 2]];
      profile();
    }
  });
}

function methodTool(oninput) {
  if (capture.told.estimates.length < 2) return [];
  const layers = capture.told.estimates.map(({ method }, number) => ({ key: String(number), label: method }));
  return [chooser('method', 'Method', String(state.method), (value) => { state.method = Number(value); oninput(); }, layers)];
}

function apertureText(widening) {
  const number = capture.told.estimates[state.method].defocus.f_number, times = `${widening.toPrecision(2)} x`;
  return number ? `f/${(number / widening).toPrecision(2)}` : times;
}

const TOOLS = {
  look: () => $('tools').replaceChildren(chooser('alone', 'Show', state.alone, (key) => { state.alone = key; show(); }), lineTool()),
  compare: () => $('tools').replaceChildren(
    chooser('left', 'Left', state.first, (key) => { state.first = key; show(); }),
    chooser('right', 'Right', state.second, (key) => { state.second = key; show(); }),
    slider('split', '', { min: 0, max: 1, step: 0.002 }, stage.split, () => '', (value) => stage.splitAt(value)), lineTool()),
  wiggle: () => {
    const stack = capture.told.kind === 'stack', count = capture.told.views.length;
    const label = (frame) => capture.told.pictures.find(({ name }) => name === capture.told.views[Math.round(frame)]).label;
    state.frame = Math.min(state.frame, count - 1);
    $('tools').replaceChildren(
      toggle('play', 'Play', state.playing, (on) => { state.playing = on; }),
      slider('frame', stack ? 'Focus' : 'View', { min: 0, max: count - 1, step: 1 }, state.frame, label, (value) => { state.playing = false; $('play').ariaPressed = 'false'; state.frame = value; show(); }),
      slider('speed', 'Per second', { min: 1, max: 12, step: 0.5 }, state.speed, String, (value) => { state.speed = value; }));
  },
  refocus: () => {
    const defocus = capture.told.estimates[state.method].defocus;
    $('tools').replaceChildren(
      element('span', { id: 'focus-text', className: 'soft', textContent: 'Tap what shall be sharp.' }),
      slider('aperture', 'Aperture', { min: -2, max: 4, step: 0.05 }, Math.log2(state.widening), (v) => apertureText(2 ** v), (v) => { state.widening = 2 ** v; refocused(); }),
      slider('focus', 'Focus', { min: 0, max: 1, step: 0.002 }, 0.5, () => '', (share) => { state.focus = focusAtShare(share); stage.mark = null; refocused(); }),
      ...methodTool(() => { state.focus = null; choose('refocus'); }),
      element('button', { textContent: 'Save picture', onclick: savePicture }),
      element('p', { className: 'small', textContent: [defocus.own_blur ? 'The picture has its own blur, which stays; what is missing is added.' : '', ...defocus.notes].filter(Boolean).join(' ') }));
  },
  points: () => $('tools').replaceChildren(
    toggle('sway', 'Sway', state.sway, (on) => { state.sway = on; }),
    element('button', { textContent: 'From the lens', onclick: () => { state.sway = false; $('sway').ariaPressed = 'false'; space?.home(); } }),
    ...methodTool(() => show()), element('span', { id: 'points-text', className: 'soft' })),
};

// ---- what is shown

async function show() {
  const asked = ++state.draws, { told } = capture;
  if (state.mode === 'points') return points();
  if (state.mode === 'refocus') return refocused();
  let images;
  if (state.mode === 'wiggle') images = [await capture.picture(told.views[state.frame])];
  else images = await Promise.all(shownLayers().map((shown) => capture.image(shown)));
  if (asked !== state.draws) return;
  stage.images = images;
  stage.drawNow();
  $('first')?.remove();
  await shading();
  await tell();
  profile();
  document.body.dataset.shown = state.mode;
}

/** The map whose scale, histogram and threshold are shown: the first one that is seen. */
const shadedLayer = () => shownLayers().find(({ kind }) => kind === 'map') ?? null;

async function shading() {
  const shown = shadedLayer(), map = await capture.mapOf(shown);
  const needed = map || (state.mode === 'points' && hasMaps());
  $('shading').hidden = !needed;
  const confidence = map ? await confidenceOf(shown) : state.mode === 'points' ? await capture.map(state.method, 'confidence') : null;
  $('threshold-label').hidden = !confidence;
  for (const id of ['legend', 'histogram', 'histogram-text', 'legend-name']) $(id).hidden = !map;
  if (!map) return;
  $('legend-name').textContent = shown.label;
  drawLegend($('legend'), map, RAMPS[map.scale]);
  histogram(map, confidence);
}

function histogram(map, confidence, value) {
  const { sure, known, all } = drawHistogram($('histogram'), map, confidence, capture.threshold, value);
  const share = (count) => `${(100 * count / all).toFixed(1)} %`;
  $('histogram-text').textContent = confidence ? `${share(sure)} of the picture is that sure` : `${share(known)} of the picture has a value`;
}

async function profile() {
  const layers = shownLayers().filter(({ kind }) => kind === 'map');
  let maps = await Promise.all(layers.map((one) => capture.mapOf(one)));
  if (!maps.length && stage.line && hasMaps()) maps = [await capture.map(0, capture.told.estimates[0].maps[0].name)];
  if (maps.length > 1 && maps[0].unit !== maps[1].unit) maps.pop();
  $('profile-card').hidden = !stage.line || !maps.length;
  if ($('profile-card').hidden) return;
  stage.draw();
  const [a, b] = stage.line.map(([x, y]) => pixelOf(x, y));
  const found = drawProfile($('profile'), maps, stage.line, pixelOf);
  const names = (layers.length ? layers : capture.layers.filter(({ kind }) => kind === 'map')).slice(0, maps.length).map(({ label }) => label).join(' (first colour), ');
  const unit = maps[0].unit ? `, ${maps[0].unit}` : '';
  $('profile-text').textContent = found ? `${names}${unit}; ${Math.hypot(b[0] - a[0], b[1] - a[1]).toFixed(0)} px long` : 'nothing is measured there';
}

// ---- values under the cursor

/** The value of the kept pixel nearest to one of the view, and which that is where not all are kept. */
async function valueCell(number, name, column, row) {
  const cell = element('td'), map = await capture.map(number, name);
  if (!map) return cell;
  const index = map.indexAt(column, row), [x, y] = map.pixelOf(index);
  cell.textContent = map.text(map.values[index]);
  Object.assign(cell.dataset, { map: `${number}:${name}`, column: x, row: y });
  if (map.stride > 1) cell.append(element('span', { className: 'soft', textContent: `at ${x}, ${y}` }));
  return cell;
}

async function tell() {
  if (!stage.cursor) { $('place').textContent = 'nothing yet: move over the picture'; return; }
  const [column, row] = pixelOf(...stage.cursor), { told } = capture;
  $('place').textContent = `at ${Math.round(Math.max(0, column))}, ${Math.round(Math.max(0, row))}`;
  const names = [...new Set(told.estimates.flatMap(({ maps }) => maps.map(({ name }) => name)))], rows = [];
  if (told.estimates.length > 1) rows.push(element('tr', {}, element('th'), ...told.estimates.map(({ method }) => element('th', { textContent: method }))));
  for (const name of names) {
    const cells = [];
    for (const number of told.estimates.keys()) cells.push(await valueCell(number, name, column, row));
    const [label] = told.estimates.flatMap(({ maps }) => maps.filter((map) => map.name === name)).map(({ label: text }) => text);
    rows.push(element('tr', {}, element('td', { textContent: label }), ...cells));
  }
  if (!rows.length) rows.push(element('tr', {}, element('td', { textContent: 'no depth has been found yet' })));
  $('values').replaceChildren(...rows);
  const shown = shadedLayer(), map = await capture.mapOf(shown);
  if (map) histogram(map, await confidenceOf(shown), map.at(column, row));
}

// ---- refocus

/** A coordinate without holes: what has none gets that of the nearest pixel of its row that has one. */
function denseCoordinate(map, defocus) {
  const values = Float32Array.from(map.values, (v) => defocus.coordinate === 'minus_diopters' ? -1 / v : v);
  let last = NaN;
  const fill = (i) => { if (Number.isFinite(values[i])) last = values[i]; else if (Number.isFinite(last)) values[i] = last; };
  for (let i = 0; i < values.length; i++) fill(i);
  for (let i = values.length - 1; i >= 0; i--) fill(i);
  return { values: values.map((v) => Number.isFinite(v) ? v : 0), columns: map.columns, rows: map.rows };
}

async function loadRefocus() {
  const { told } = capture, estimate = told.estimates[state.method], key = `${captures.indexOf(capture)} ${state.method}`;
  if (refocus?.key === key) return estimate;
  refocus ??= new Refocus();
  const map = await capture.map(state.method, estimate.defocus.map);
  refocus.coordinates = denseCoordinate(map, estimate.defocus);
  refocus.load(await capture.picture(capture.sharpName(state.method)), refocus.coordinates, estimate.defocus, told.width / told.baseline_px);
  refocus.key = key;
  const sorted = Float32Array.from(refocus.coordinates.values).sort(), at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  refocus.ends = [at(0.99), at(0.01)];
  return estimate;
}

const focusAtShare = (share) => refocus.ends[0] + (refocus.ends[1] - refocus.ends[0]) * share;

/** The coordinate at a place: the median of 5 x 5 pixels of the map. */
function coordinateAt(x, y) {
  const { values, columns, rows } = refocus.coordinates, near = [];
  const column = Math.floor(x / capture.told.width * columns), row = Math.floor(y / capture.told.height * rows);
  for (let v = Math.max(0, row - 2); v <= Math.min(rows - 1, row + 2); v++) {
    for (let u = Math.max(0, column - 2); u <= Math.min(columns - 1, column + 2); u++) near.push(values[v * columns + u]);
  }
  return near.sort((a, b) => a - b)[near.length >> 1];
}

async function focusAt(x, y) {
  await loadRefocus();
  state.focus = coordinateAt(x, y);
  stage.mark = [x, y];
  await refocused();
}

async function refocused() {
  try {
    await loadRefocus();
  } catch (error) {
    return say(error.message);
  }
  if (state.focus === null) {
    const [x, y] = stage.size;
    state.focus = coordinateAt(x / 2, y / 2);
    state.widening = 2;
    if ($('aperture')) { $('aperture').value = 1; $('aperture').oninput(); }
  }
  const diopters = refocus.diopters(state.focus), [far, near] = refocus.ends;
  if ($('focus')) $('focus').value = (state.focus - far) / (near - far || 1);
  $('focus-text').textContent = diopters === null ? 'Tap what shall be sharp.' : `In focus: ${diopters > 0 ? (1 / diopters).toPrecision(3) + ' m' : '∞'}. Tap elsewhere.`;
  stage.images = [refocus.canvas];
  document.body.dataset.shown = '';
  if (!await refocus.draw(state.focus, state.widening, 3)) return;
  stage.drawNow();
  $('first')?.remove();
  shading();
  clearTimeout(settle);
  settle = setTimeout(async () => {
    if (state.mode !== 'refocus' || !await refocus.draw(state.focus, state.widening)) return;
    stage.draw();
    document.body.dataset.shown = 'refocus';
  }, 120);
}

function savePicture() {
  refocus.canvas.toBlob((blob) => {
    const url = URL.createObjectURL(blob);
    element('a', { href: url, download: `${capture.told.name.replace(/\.[^.]*$/, '')}_refocused.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
}

// ---- points

async function points() {
  const { told } = capture, estimate = told.estimates[state.method], names = estimate.maps.map(({ name }) => name);
  const name = ['depth', 'disparity', 'focus_index'].find((known) => names.includes(known));
  const map = await capture.map(state.method, name), picture = capture.sharpName(state.method);
  try {
    space ??= new Space($('space'));
  } catch (error) {
    return say(`points need WebGL: ${error.message}`);
  }
  const made = pointsOf(told, map, await capture.map(state.method, 'confidence'), capture.threshold, picture && await capture.picture(picture));
  space.show(made, told);
  const metric = name === 'depth';
  $('points-text').textContent = `${(made.positions.length / 3).toLocaleString('en')} points` + (metric ? (made.pinhole.metric ? ', in m' : ', in m along the axis; the field of view is not known') : ', a relief: no metres are known');
  $('first')?.remove();
  await shading();
  document.body.dataset.shown = 'points';
}

// ---- one capture, all captures

async function open(number) {
  capture = captures[number];
  const { told } = capture;
  Object.assign(state, { focus: null, method: 0, frame: 0, widening: 1 });
  stage.reset(told.width, told.height);
  const maps = capture.layers.filter(({ kind }) => kind === 'map'), pictures = capture.layers.filter(({ kind }) => kind === 'picture');
  state.alone = state.first = (pictures[0] ?? maps[0])?.key;
  state.second = (maps[0] ?? pictures[1])?.key;
  const alike = maps.filter(({ name }) => name === maps[0].name);
  if (alike.length > 1) [state.first, state.second] = [alike[0].key, alike[1].key];
  $('name').textContent = told.name;
  $('about').textContent = `${told.columns} x ${told.rows} px` + told.estimates.map(({ method }) => `, ${method}`).join('');
  const facts = [...told.facts, ...told.estimates.flatMap(({ facts: known }) => known)];
  $('facts').replaceChildren(...facts.flatMap(([name, value]) => [element('dt', { textContent: name }), element('dd', { textContent: value })]));
  const notes = [...told.notes, ...told.estimates.flatMap(({ notes: known, method }) => known.map((text) => `${method}: ${text}`))];
  $('notes-card').hidden = !notes.length;
  $('notes').replaceChildren(...notes.map((text) => element('li', { textContent: text })));
  [...$('scenes').children].forEach((button, k) => { button.ariaPressed = String(k === number); });
  $('values').replaceChildren();
  await choose('look');
}

function scenes() {
  $('scenes').hidden = captures.length < 2;
  $('scenes').replaceChildren(...captures.map(({ told }, number) => {
    const button = element('button', { title: told.name, onclick: () => open(number) });
    if (told.thumbnail) button.append(element('img', { src: told.thumbnail, alt: '' }));
    button.append(told.name);
    return button;
  }));
}

$('threshold').oninput = () => {
  capture.threshold = Number($('threshold').value);
  $('threshold-text').textContent = capture.threshold.toFixed(2);
  clearTimeout(settle);
  settle = setTimeout(show, state.mode === 'points' ? 150 : 0);
};

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ['SELECT', 'INPUT'].includes(event.target.tagName)) return;
  const step = event.shiftKey ? 10 : 1, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const { key } = event, mode = Object.keys(MODES)[Number(key) - 1];
  if (mode) choose(mode);
  else if (moves[key] && state.mode !== 'points') moveCursor(...moves[key]);
  else if (key === '+' || key === '=') stage.zoomBy(1.4, stage.cursor ?? stage.centre);
  else if (key === '-') stage.zoomBy(1 / 1.4, stage.cursor ?? stage.centre);
  else if (key === '0') stage.zoomBy(1 / MOST_ZOOM);
  else if (key === '[' || key === ']') { $('threshold').value = Number($('threshold').value) + (key === ']' ? 0.05 : -0.05); $('threshold').oninput(); }
  else if (key === 'p' && $('line')) $('line').click();
  else if (key === ' ' && event.target.tagName !== 'BUTTON') {
    if (state.mode === 'refocus' && stage.cursor) focusAt(...stage.cursor);
    else ($('play') ?? $('sway'))?.click();
  } else return;
  event.preventDefault();
});

function moveCursor(x, y) {
  const { told } = capture, place = stage.cursor ?? stage.centre, step = [told.width / told.columns, told.height / told.rows];
  const within = (value, size) => Math.min(size - 0.5, Math.max(0.5, value));
  stage.hover([within(place[0] + x * step[0], told.width), within(place[1] + y * step[1], told.height)]);
}

let lastFrame = 0, direction = 1;
function tick(now) {
  requestAnimationFrame(tick);
  if (document.hidden) return;
  if (state.mode === 'points' && state.sway && space?.points) space.sway(now / 1000);
  if (state.mode !== 'wiggle' || !state.playing || now - lastFrame < 1000 / state.speed) return;
  lastFrame = now;
  const last = capture.told.views.length - 1;
  if (state.frame >= last) direction = -1;
  else if (state.frame <= 0) direction = 1;
  state.frame = Math.min(last, Math.max(0, state.frame + direction));
  if ($('frame')) { $('frame').value = state.frame; $('frame').nextSibling.textContent = capture.told.pictures.find(({ name }) => name === capture.told.views[state.frame]).label; }
  show();
}

// For the console, and for tests.
window.dualpix = {
  open, choose, state, stage, data,
  valueAt: async (number, name, column, row) => { const map = await capture.map(number, name), i = map.indexAt(column, row); return { text: map.text(map.values[i]), pixel: map.pixelOf(i) }; },
  refocusAt: async (focus, widening) => { await loadRefocus(); await refocus.draw(focus, widening); return refocus.canvas.toDataURL('image/png'); },
};

$('keys').replaceChildren(...Object.entries(KEYS).flatMap(([key, text]) => [element('dt', { textContent: key }), element('dd', { textContent: text })]));
scenes();
requestAnimationFrame(tick);
await open(0);
new ResizeObserver(() => { shading(); profile(); }).observe(document.documentElement);
document.body.dataset.ready = 'yes';
