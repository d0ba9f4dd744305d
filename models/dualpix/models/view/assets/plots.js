// Scale bar, histogram and profile, drawn in the colours of the page.

const BINS = 96, PROFILE_SAMPLES = 400;

function plotContext(canvas) {
  const ratio = window.devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d'), style = getComputedStyle(document.documentElement);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = '11px system-ui, sans-serif';
  const colour = (name) => style.getPropertyValue(name).trim();
  return { context, width, height, colour };
}

/** Round places between two values: [[place, text]]. */
function ticksOf(low, high, most = 5) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push([k * step, (k * step).toFixed(decimals)]);
  return ticks;
}

const scaleTicks = (map) => map.ticks ?? ticksOf(...map.limits);

function drawTicks(context, ticks, placeOf, y, width, colour) {
  context.fillStyle = colour('--soft');
  context.textAlign = 'center';
  context.textBaseline = 'top';
  let free = -Infinity;
  for (const [place, text] of [...ticks].sort((a, b) => placeOf(a[0]) - placeOf(b[0]))) {
    const half = context.measureText(text).width / 2, x = Math.min(width - half, Math.max(half, placeOf(place)));
    if (x - half < free + 5) continue;
    context.fillText(text, x, y);
    free = x + half;
  }
}

function drawLegend(canvas, map, colours) {
  const { context, width, colour } = plotContext(canvas), [low, high] = map.limits;
  for (let x = 0; x < width; x++) {
    const place = 3 * Math.round(255 * x / Math.max(1, width - 1));
    context.fillStyle = `rgb(${colours[place]} ${colours[place + 1]} ${colours[place + 2]})`;
    context.fillRect(x, 0, 1, 18);
  }
  drawTicks(context, scaleTicks(map), (place) => (place - low) / (high - low) * width, 22, width, colour);
  context.textAlign = 'left';
  context.fillText(map.unit ? `in ${map.unit}` : '', 0, 36);
}

/** Counts of the sure values over the map's scale, and where the value under the cursor lies. */
function drawHistogram(canvas, map, confidence, threshold, value) {
  const counts = new Float64Array(BINS);
  let sure = 0, known = 0;
  for (let i = 0; i < map.values.length; i++) {
    const v = map.values[i];
    if (Number.isNaN(v)) continue;
    known++;
    if (confidence && (confidence.stride === map.stride ? confidence.values[i] : confidence.at(...map.pixelOf(i))) < threshold) continue;
    sure++;
    counts[Math.min(BINS - 1, Math.floor(map.shareOf(v) * BINS))]++;
  }
  const { context, width, height, colour } = plotContext(canvas), top = Math.max(1, ...counts), floor = height - 16;
  context.fillStyle = colour('--accent');
  counts.forEach((count, k) => {
    const bar = count / top * (floor - 4);
    context.fillRect(k / BINS * width, floor - bar, width / BINS - 0.5, bar);
  });
  const [low, high] = map.limits;
  drawTicks(context, scaleTicks(map), (place) => (place - low) / (high - low) * width, floor + 3, width, colour);
  if (value !== undefined && !Number.isNaN(value)) {
    context.fillStyle = colour('--second');
    context.fillRect(map.shareOf(value) * width - 1, 0, 2, floor);
  }
  return { sure, known, all: map.values.length };
}

/** Values along a line, of one map or two. */
function drawProfile(canvas, maps, [from, to], toPixel) {
  const { context, width, height, colour } = plotContext(canvas), floor = height - 18, left = 44;
  const along = Array.from({ length: PROFILE_SAMPLES }, (_, k) => {
    const share = k / (PROFILE_SAMPLES - 1);
    return toPixel(from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share);
  });
  const lines = maps.map((map) => along.map(([column, row]) => map.placeOf(map.at(column, row))));
  const finite = lines.flat().filter(Number.isFinite);
  if (!finite.length) return null;
  let [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (high - low < 1e-6) [low, high] = [low - 0.5, high + 0.5];
  const y = (place) => 6 + (floor - 10) * (1 - (place - low) / (high - low));
  const inside = (maps[0].ticks ?? []).filter(([place]) => place >= low && place <= high);
  const ticks = inside.length > 1 ? inside : ticksOf(low, high, 4).map(([place, text]) => [place, maps[0].scale === 'depth' ? (place > 0 ? (1 / place).toPrecision(3) : '∞') : text]);
  context.fillStyle = colour('--soft');
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  let free = Infinity;
  for (const [place, text] of [...ticks].sort((a, b) => a[0] - b[0])) {
    if (y(place) > free - 12) continue;
    context.fillText(text, left - 6, y(place));
    context.fillRect(left - 3, y(place), 3, 1);
    free = y(place);
  }
  lines.forEach((line, number) => {
    context.strokeStyle = colour(number ? '--second' : '--accent');
    context.lineWidth = 1.6;
    context.beginPath();
    let pen = false;
    line.forEach((place, k) => {
      if (!Number.isFinite(place)) { pen = false; return; }
      const x = left + k / (PROFILE_SAMPLES - 1) * (width - left);
      if (pen) context.lineTo(x, y(place)); else context.moveTo(x, y(place));
      pen = true;
    });
    context.stroke();
  });
  return { low, high };
}
