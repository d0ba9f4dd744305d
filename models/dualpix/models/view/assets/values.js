'use strict';
// Maps: from the bytes of a page to values, and values to text. The coding is that of dualpix.models.view.codes.

const NAN_CODE = -(2 ** 31), INFINITY_CODE = 2 ** 31 - 1;

/** The bytes of a text in base64. */
function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Inflated bytes of a text in base64. */
async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The whole numbers of a map, row by row: folded differences from the planar prediction, in four planes of bytes. */
function unpackedCodes(planes, rows, columns) {
  const count = rows * columns, codes = new Int32Array(count);
  for (let row = 0, i = 0; row < rows; row++) {
    let run = 0;
    for (let column = 0; column < columns; column++, i++) {
      const folded = planes[i] | planes[i + count] << 8 | planes[i + 2 * count] << 16 | planes[i + 3 * count] << 24;
      run = run + ((folded >>> 1) ^ -(folded & 1)) | 0;
      codes[i] = row ? run + codes[i - columns] | 0 : run;
    }
  }
  return codes;
}

function valueOfCode(code, digits) {
  if (code === NAN_CODE) return NaN;
  if (code === INFINITY_CODE) return Infinity;
  if (digits.kind === 'fixed') return code / 10 ** digits.count;
  const steps = 10 ** (digits.count - 1), exponent = Math.floor(code / (9 * steps));
  const mantissa = code - exponent * 9 * steps + steps, shift = exponent - digits.count + 1;
  return shift < 0 ? mantissa / 10 ** -shift : mantissa * 10 ** shift;
}

/** A value as the file has it, to the digits that are told. */
function valueText(value, digits, unit) {
  if (Number.isNaN(value)) return 'not measured';
  const suffix = unit ? ' ' + unit : '';
  if (!Number.isFinite(value)) return '∞' + suffix;
  if (digits.kind === 'fixed') return value.toFixed(digits.count) + suffix;
  const decimals = digits.count - 1 - Math.floor(Math.log10(value) + 1e-9);
  return value.toFixed(Math.max(0, decimals)) + suffix;
}

/** A map of the page with its values, and what lies at a pixel of the view. */
class ValueMap {
  constructor(told, codes) {
    Object.assign(this, told);
    delete this.data;
    this.values = new Float64Array(codes.length);
    for (let i = 0; i < codes.length; i++) this.values[i] = valueOfCode(codes[i], told.digits);
  }

  static async read(told) {
    return new ValueMap(told, unpackedCodes(await inflated(told.data), told.rows, told.columns));
  }

  /** Index of the kept pixel nearest to a pixel of the view. */
  indexAt(column, row) {
    const x = Math.min(this.columns - 1, Math.max(0, Math.round(column / this.stride)));
    const y = Math.min(this.rows - 1, Math.max(0, Math.round(row / this.stride)));
    return y * this.columns + x;
  }

  at(column, row) { return this.values[this.indexAt(column, row)]; }

  /** Which pixel of the view a kept one is. */
  pixelOf(index) {
    return [index % this.columns * this.stride, Math.floor(index / this.columns) * this.stride];
  }

  text(value) { return valueText(value, this.digits, this.unit); }

  /** Where a value lies on the map's scale: depth is coloured by its diopters. */
  placeOf(value) { return this.scale === 'depth' ? 1 / value : value; }

  shareOf(value) {
    const [low, high] = this.limits;
    return Math.min(1, Math.max(0, (this.placeOf(value) - low) / (high - low)));
  }
}
