// Points in space that turn, by three.js. Axes as in the files: x right, y down, z away from the lens, in m; three.js
// has y up and looks along -z.

const MOST_POINTS = 450000, RELIEF_DEPTH = 0.6, ASSUMED_FOCAL = 1.2;

/** Where pixels lie: by the lens; else as a relief, whose depth means nothing but farther and nearer. */
function pinholeOf(told) {
  if (told.pinhole) return { ...told.pinhole, metric: true };
  const focal = ASSUMED_FOCAL * told.width;
  return { fx_px: focal * told.columns / told.width, fy_px: focal * told.rows / told.height, cx_px: (told.columns - 1) / 2, cy_px: (told.rows - 1) / 2, metric: false };
}

/** {positions, colours, depths}: of the sure pixels that have a depth, every `step`-th of the map. */
function pointsOf(told, map, confidence, threshold, picture) {
  const pinhole = pinholeOf(told), step = Math.max(1, Math.ceil(Math.sqrt(map.rows * map.columns / MOST_POINTS)));
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [map.columns, map.rows];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (picture) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  else { context.fillStyle = '#999'; context.fillRect(0, 0, canvas.width, canvas.height); }
  const light = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const range = map.name === 'depth' ? null : rangeOf(map);
  const positions = [], colours = [], depths = [];
  for (let row = 0; row < map.rows; row += step) for (let column = 0; column < map.columns; column += step) {
    const i = row * map.columns + column, value = map.values[i], pixel = [column * map.stride, row * map.stride];
    if (!Number.isFinite(value) || (confidence && confidence.at(...pixel) < threshold)) continue;
    const z = range ? 1 + RELIEF_DEPTH * Math.min(1, Math.max(0, (value - range[0]) / (range[1] - range[0]))) : value;
    positions.push(z * (pixel[0] - pinhole.cx_px) / pinhole.fx_px, -z * (pixel[1] - pinhole.cy_px) / pinhole.fy_px, -z);
    colours.push(light[4 * i] / 255, light[4 * i + 1] / 255, light[4 * i + 2] / 255);
    depths.push(z);
  }
  return { positions: new Float32Array(positions), colours: new Float32Array(colours), depths: Float32Array.from(depths).sort(), step: step * map.stride, pinhole };
}

function rangeOf(map) {
  const known = Float64Array.from(map.values.filter(Number.isFinite)).sort();
  const low = known[Math.floor(0.01 * known.length)] ?? 0, high = known[Math.floor(0.99 * known.length)] ?? 1;
  return high > low ? [low, high] : [low, low + 1];
}

class Space {
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
    this.renderer.outputColorSpace = 'srgb-linear'; // colours are the picture's own codes, shown as they are
    this.renderer.setClearColor(0x20262c);
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(45, 1, 0.001, 1000);
    this.controls = new THREE.OrbitControls(this.camera, canvas);
    this.controls.addEventListener('change', () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(made, told) {
    this.points?.geometry.dispose();
    this.points?.material.dispose();
    this.scene.clear();
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(made.positions, 3));
    geometry.setAttribute('color', new THREE.BufferAttribute(made.colours, 3));
    this.points = new THREE.Points(geometry, new THREE.PointsMaterial({ vertexColors: true, sizeAttenuation: false, size: 2 }));
    this.scene.add(this.points);
    this.made = made;
    this.told = told;
    this.home();
  }

  /** Look from where the lens was. */
  home() {
    const { depths, pinhole } = this.made, middle = depths[depths.length >> 1] ?? 1, far = depths[depths.length - 1] ?? 1;
    this.distance = middle;
    this.camera.near = middle / 200;
    this.camera.far = far * 20;
    this.fieldDegrees = 2 * Math.atan(this.told.rows / 2 / pinhole.fy_px) * 180 / Math.PI;
    this.camera.position.set(0, 0, 0);
    this.controls.target.set(0, 0, -middle);
    this.controls.update();
    this.draw();
  }

  /** Sway to and fro about the middle of the scene, so that depth is seen without a hand. */
  sway(seconds) {
    const angle = 0.1 * Math.sin(seconds * 1.2), lift = 0.04 * Math.sin(seconds * 0.7), d = this.distance;
    this.camera.position.set(d * Math.sin(angle), d * Math.sin(lift), d * Math.cos(angle) * Math.cos(lift) - d);
    this.camera.lookAt(this.controls.target);
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.points || !width || !height) return;
    const ratio = Math.min(2, window.devicePixelRatio || 1), { told, made } = this;
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    // the whole picture fits, as on the flat stage
    const fit = Math.max(1, told.width / told.height / this.camera.aspect);
    this.camera.fov = 2 * Math.atan(Math.tan(this.fieldDegrees * Math.PI / 360) * fit) * 180 / Math.PI;
    this.camera.updateProjectionMatrix();
    const closer = this.distance / Math.max(1e-6, this.camera.position.distanceTo(this.controls.target));
    const footprint = made.step * Math.min(height / told.rows, width / told.columns);
    this.points.material.size = Math.max(1.2, 1.3 * footprint * closer) * ratio;
    this.renderer.render(this.scene, this.camera);
  }
}
