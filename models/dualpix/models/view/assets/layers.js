// What can be shown: pictures, and maps in colours. A map fades to grey where its method is unsure.

const GREY = 128;

/** Draw a map with the colours of its scale; what is below the threshold, or has no value, is grey. */
function colouredMap(map, colours, confidence, threshold, canvas = document.createElement('canvas')) {
  canvas.width = map.columns;
  canvas.height = map.rows;
  const context = canvas.getContext('2d'), image = context.createImageData(map.columns, map.rows), data = image.data;
  const sameGrid = confidence && confidence.stride === map.stride;
  for (let i = 0; i < map.values.length; i++) {
    const value = map.values[i];
    const sure = !confidence || (sameGrid ? confidence.values[i] : confidence.at(...map.pixelOf(i))) >= threshold;
    data[4 * i + 3] = 255;
    if (Number.isNaN(value) || !sure) {
      data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = GREY;
      continue;
    }
    const place = 3 * Math.round(255 * map.shareOf(value));
    data[4 * i] = colours[place];
    data[4 * i + 1] = colours[place + 1];
    data[4 * i + 2] = colours[place + 2];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

async function loadedPicture(picture) {
  const image = new Image();
  image.src = picture.uri;
  await image.decode();
  return image;
}

/** Everything of one capture that the page can show, read when it is first asked for. */
class Capture {
  constructor(told, ramps) {
    this.told = told;
    this.ramps = ramps;
    this.pictures = new Map();
    this.maps = new Map();
    this.drawn = new Map();
    this.threshold = 0.5;
  }

  /** {key, label, kind}: pictures by their name, maps by the number of their method and their name. */
  get layers() {
    const views = new Set(this.told.kind === 'stack' ? this.told.views : []);
    const pictures = this.told.pictures.filter(({ name }) => !views.has(name));
    const several = this.told.estimates.length > 1;
    const maps = this.told.estimates.flatMap((estimate, number) => estimate.maps.map((map) => ({
      key: `${number}:${map.name}`, kind: 'map', number, name: map.name,
      label: several && map.name !== 'truth' ? `${map.label}, ${estimate.method}` : map.label,
    })));
    return [...pictures.map(({ name, label }) => ({ key: name, kind: 'picture', label })), ...maps];
  }

  async picture(name) {
    if (!this.pictures.has(name)) {
      const told = this.told.pictures.find((picture) => picture.name === name);
      this.pictures.set(name, told ? await loadedPicture(told) : null);
    }
    return this.pictures.get(name);
  }

  async map(number, name) {
    const key = `${number}:${name}`;
    if (!this.maps.has(key)) {
      const told = this.told.estimates[number]?.maps.find((map) => map.name === name);
      this.maps.set(key, told ? ValueMap.read(told) : null);
    }
    return this.maps.get(key);
  }

  mapOf(layer) { return layer?.kind === 'map' ? this.map(layer.number, layer.name) : null; }

  /** The layer as something that can be drawn. */
  async image(layer) {
    if (layer.kind === 'picture') return this.picture(layer.key);
    const map = await this.mapOf(layer), faded = !['confidence', 'truth'].includes(layer.name);
    const confidence = faded ? await this.map(layer.number, 'confidence') : null;
    const state = `${this.threshold}`, drawn = this.drawn.get(layer.key);
    if (drawn?.state === state) return drawn.canvas;
    const canvas = colouredMap(map, this.ramps[map.scale], confidence, this.threshold, drawn?.canvas);
    this.drawn.set(layer.key, { state, canvas });
    return canvas;
  }

  /** The picture that is refocused and gives points their colours. */
  sharpName(number) {
    return this.told.estimates[number]?.sharp ?? (this.told.pictures.some(({ name }) => name === 'picture') ? 'picture' : null);
  }
}
