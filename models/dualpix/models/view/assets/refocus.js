// A picture through a synthetic aperture, by WebGL 2: a thin lens focused where one taps.
//
// The form of dualpix.capture.render.layered, "exact", in one pass: every pixel gathers the discs that its surroundings
// spread over it, sorts their light into cuts of equal blur, and lets each cut, front to back, take what those before it
// have left of the pixel, up to its own coverage. What nobody saw behind an object is taken from what shows around it.
// Near a pixel all neighbours are looked at; farther out rings of every second, fourth, ... pixel of a picture reduced
// likewise (mipmaps), so the work grows with the logarithm of the blur. Light is linear.

const CUTS = 12, REACH = 8, RELATIVE_EDGE = 0.06, MOST_PIXELS = 9e5, LARGEST_RADIUS_PX = 240;
const FIRST_BAND_ROWS = 16, BAND_MS = 40; // the first is a guess; later ones are as high as the graphics card is fast
const TABLE_STEP_PX = 0.125;

const VERTEX = `#version 300 es
in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }`;

/** Linear light, and beside it the circle of confusion of each pixel. */
const PREPARE = `#version 300 es
precision highp float;
uniform sampler2D picture, coordinate;
uniform vec2 size;
uniform float gain, focus, own, pixels;
out vec4 result;
float at(ivec2 place, ivec2 last) { return texelFetch(coordinate, clamp(place, ivec2(0), last), 0).r; }
void main() {
  vec2 share = gl_FragCoord.xy / size;
  ivec2 count = textureSize(coordinate, 0);
  vec2 place = share * vec2(count) - 0.5, part = fract(place);
  ivec2 first = ivec2(floor(place)), last = count - 1;
  float t = mix(mix(at(first, last), at(first + ivec2(1, 0), last), part.x),
                mix(at(first + ivec2(0, 1), last), at(first + ivec2(1, 1), last), part.x), part.y);
  float coc = gain * (t - focus);
  if (own > 0.0) coc = sign(coc) * sqrt(max(coc * coc - own * own * t * t, 0.0));
  result = vec4(texture(picture, share).rgb, coc * pixels);
}`;

const GATHER = `#version 300 es
precision highp float;
const int CUTS = ${CUTS}, REACH = ${REACH};
uniform sampler2D source, areas;
uniform vec2 size, ladder;
uniform int rings;
out vec4 result;
float placeOf(float coc) { return asinh(coc / 4.0); }
float weight(float apart, float radius, float step) {
  float soft = min(0.41, 0.15 + 0.5 * radius), edge = ${RELATIVE_EDGE} * radius;
  float sigma = sqrt(soft * soft + edge * edge + (step > 1.0 ? step * step / 12.0 : 0.0)), x = (apart - radius) / sigma;
  return 1.0 / (1.0 + exp(clamp(x * (1.5976 + 0.07056 * x * x), -30.0, 30.0)));
}
void main() {
  vec4 cuts[CUTS];
  for (int k = 0; k < CUTS; k++) cuts[k] = vec4(0.0);
  float span = max(placeOf(ladder.y) - placeOf(ladder.x), 1e-4);
  for (int ring = 0; ring < rings; ring++) {
    float step = exp2(float(ring));
    for (int y = -REACH; y <= REACH; y++) for (int x = -REACH; x <= REACH; x++) {
      if (ring > 0 && max(abs(x), abs(y)) <= REACH / 2) continue;
      vec2 offset = vec2(x, y) * step;
      vec4 light = textureLod(source, (gl_FragCoord.xy + offset) / size, float(ring));
      float radius = abs(light.a) * 0.5;
      float share = weight(length(offset), radius, step);
      if (share < 1e-4) continue;
      share *= step * step * texture(areas, vec2((radius / ${TABLE_STEP_PX} + 0.5) / float(textureSize(areas, 0).x), 0.5)).r;
      float place = clamp((placeOf(light.a) - placeOf(ladder.x)) / span, 0.0, 1.0) * float(CUTS - 1);
      int cut = min(int(place), CUTS - 2);
      float behind = place - float(cut);
      vec4 spread = vec4(light.rgb, 1.0) * share;
      cuts[cut] += spread * (1.0 - behind);
      cuts[cut + 1] += spread * behind;
    }
  }
  vec3 seen = vec3(0.0);
  float left = 1.0;
  for (int k = 0; k < CUTS; k++) {
    float taken = min(cuts[k].a, left);
    seen += cuts[k].rgb * (taken / max(cuts[k].a, 1e-4));
    left -= taken;
  }
  result = vec4(seen / max(1.0 - left, 1e-4), 1.0);
}`;

/** To the screen, upright, by the sRGB curve. */
const SHOW = `#version 300 es
precision highp float;
uniform sampler2D light;
uniform vec2 size;
out vec4 colour;
void main() {
  vec3 linear = clamp(texture(light, vec2(gl_FragCoord.x / size.x, 1.0 - gl_FragCoord.y / size.y)).rgb, 0.0, 1.0);
  vec3 high = 1.055 * pow(linear, vec3(1.0 / 2.4)) - 0.055;
  colour = vec4(mix(12.92 * linear, high, step(vec3(0.0031308), linear)), 1.0);
}`;

/** Weight of a disc at a distance, as in GATHER. */
function discWeight(apart, radius, step) {
  const soft = Math.min(0.41, 0.15 + 0.5 * radius), edge = RELATIVE_EDGE * radius;
  const sigma = Math.sqrt(soft * soft + edge * edge + (step > 1 ? step * step / 12 : 0)), x = (apart - radius) / sigma;
  return 1 / (1 + Math.exp(Math.min(30, Math.max(-30, x * (1.5976 + 0.07056 * x * x)))));
}

/** 1 / sum of the weights of each radius over the places that GATHER looks at: light is neither made nor lost. */
function inverseAreas(rings) {
  const largest = REACH * 2 ** (rings - 1), table = new Float32Array(Math.ceil(largest / TABLE_STEP_PX) + 1);
  for (let k = 0; k < table.length; k++) {
    let sum = 0;
    for (let ring = 0; ring < rings; ring++) {
      const step = 2 ** ring;
      for (let y = -REACH; y <= REACH; y++) for (let x = -REACH; x <= REACH; x++) {
        if (ring > 0 && Math.max(Math.abs(x), Math.abs(y)) <= REACH / 2) continue;
        const weight = discWeight(Math.hypot(x, y) * step, k * TABLE_STEP_PX, step);
        if (weight >= 1e-4) sum += weight * step * step;
      }
    }
    table[k] = 1 / sum;
  }
  return table;
}

class Refocus {
  constructor() {
    this.canvas = document.createElement('canvas');
    const gl = this.gl = this.canvas.getContext('webgl2', { preserveDrawingBuffer: true, antialias: false });
    if (!gl || !(gl.getExtension('EXT_color_buffer_float') || gl.getExtension('EXT_color_buffer_half_float'))) {
      throw new Error('this browser has no WebGL 2 with half floats, which refocusing needs');
    }
    this.programs = { prepare: this.program(PREPARE), gather: this.program(GATHER), show: this.program(SHOW) };
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    this.targets = new Map();
    this.tables = new Map();
    this.run = 0;
  }

  program(fragment) {
    const { gl } = this, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, 'corner');
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  texture(filter, wrap = this.gl.CLAMP_TO_EDGE) {
    const { gl } = this, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter === gl.LINEAR_MIPMAP_NEAREST ? gl.LINEAR : filter);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, wrap);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, wrap);
    return texture;
  }

  /**
   * image: the sharp picture; coordinate: {values, columns, rows}, without holes; defocus: as told by the page;
   * viewPx: width of the view in pixels of the defocus's unit.
   */
  load(image, coordinate, defocus, viewPx) {
    const { gl } = this;
    this.run++;
    this.defocus = defocus;
    this.viewPx = viewPx;
    const { naturalWidth: width, naturalHeight: height } = image;
    const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
    this.canvas.width = Math.round(width * shrink);
    this.canvas.height = Math.round(height * shrink);
    this.picture ??= this.texture(gl.LINEAR_MIPMAP_NEAREST);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    this.coordinate ??= this.texture(gl.NEAREST);
    gl.bindTexture(gl.TEXTURE_2D, this.coordinate);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, coordinate.columns, coordinate.rows, 0, gl.RED, gl.FLOAT, coordinate.values);
    const sorted = Float32Array.from(coordinate.values).sort();
    this.range = [sorted[0], sorted[sorted.length - 1]];
  }

  /** A half-float picture of a size, and the framebuffer that draws into it. */
  target(name, width, height, filter) {
    const { gl } = this, key = `${name} ${width} ${height}`;
    if (!this.targets.has(key)) {
      const texture = this.texture(filter);
      gl.texStorage2D(gl.TEXTURE_2D, filter === gl.LINEAR ? 1 : Math.floor(Math.log2(Math.max(width, height))) + 1, gl.RGBA16F, width, height);
      const frame = gl.createFramebuffer();
      gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
      this.targets.set(key, { texture, frame, width, height });
    }
    return this.targets.get(key);
  }

  table(rings) {
    const { gl } = this;
    if (!this.tables.has(rings)) {
      const table = inverseAreas(rings), texture = this.texture(gl.NEAREST);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, table.length, 1, 0, gl.RED, gl.FLOAT, table);
      this.tables.set(rings, texture);
    }
    return this.tables.get(rings);
  }

  pass(name, target, textures, uniforms, rows) {
    const { gl } = this, program = this.programs[name], { width, height } = target ?? this.canvas;
    gl.useProgram(program);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target?.frame ?? null);
    gl.viewport(0, 0, width, height);
    Object.entries(textures).forEach(([uniform, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(gl.getUniformLocation(program, uniform), unit);
    });
    for (const [uniform, value] of Object.entries({ size: [width, height], ...uniforms })) {
      const place = gl.getUniformLocation(program, uniform);
      if (uniform === 'rings') gl.uniform1i(place, value);
      else if (Array.isArray(value)) gl.uniform2f(place, ...value);
      else gl.uniform1f(place, value);
    }
    gl.disable(gl.SCISSOR_TEST);
    if (rows) {
      gl.enable(gl.SCISSOR_TEST);
      gl.scissor(0, rows[0], width, rows[1] - rows[0]);
    }
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  diopters(coordinate) {
    const { diopters_at_zero: zero, diopters_per_unit: slope } = this.defocus;
    return zero === null || slope === null ? null : zero + slope * coordinate;
  }

  /** Circle of confusion in px of the view for each unit of the coordinate: Defocus.gain in scene.py. */
  gain(focus, widening) {
    const { px_per_unit: unit, focal_length_m: f, diopters_at_zero: zero } = this.defocus, diopters = this.diopters(focus);
    if (diopters === null || !f) return unit * widening;
    return unit * widening * (1 - f * zero) / Math.max(1 - f * diopters, 0.05);
  }

  /**
   * Draw the picture focused at a coordinate, through an aperture `widening` times as wide as the captured one.
   * Long work is cut into bands; `shrink` > 1 is a quick look. Resolves to false when a later call overtook it.
   */
  async draw(focus, widening, shrink = 1) {
    const { gl } = this, run = ++this.run;
    const width = Math.max(1, Math.round(this.canvas.width / shrink)), height = Math.max(1, Math.round(this.canvas.height / shrink));
    const pixels = width / this.viewPx, gain = this.gain(focus, widening);
    const source = this.target('source', width, height, gl.LINEAR_MIPMAP_NEAREST), drawn = this.target('drawn', width, height, gl.LINEAR);
    const own = this.defocus.own_blur ? this.defocus.px_per_unit : 0;
    this.pass('prepare', source, { picture: this.picture, coordinate: this.coordinate }, { gain, focus, own, pixels });
    gl.bindTexture(gl.TEXTURE_2D, source.texture);
    gl.generateMipmap(gl.TEXTURE_2D);
    const ladder = this.range.map((t) => gain * (t - focus) * pixels);
    const radius = Math.min(LARGEST_RADIUS_PX, Math.max(...ladder.map(Math.abs)) / 2 * (1 + 3 * RELATIVE_EDGE) + 1);
    const rings = Math.max(1, Math.ceil(Math.log2(radius / REACH)) + 1);
    for (let row = 0, band = FIRST_BAND_ROWS; row < height;) {
      const from = row, begun = performance.now();
      row = Math.min(height, row + band);
      this.pass('gather', drawn, { source: source.texture, areas: this.table(rings) }, { ladder, rings }, [from, row]);
      await this.finished();
      if (run !== this.run) return false;
      band = Math.max(4, Math.ceil(band * Math.min(4, BAND_MS / (performance.now() - begun))));
    }
    this.pass('show', null, { light: drawn.texture }, {});
    return true;
  }

  /** When the graphics card has done what it was told. */
  async finished() {
    const { gl } = this, fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED) await new Promise((done) => setTimeout(done, 1));
    gl.deleteSync(fence);
  }
}
