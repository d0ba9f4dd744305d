// The picture with its cursor: moved and enlarged by mouse, touch and keys. Places are in square pixels of the view.

const MOST_ZOOM = 64, HANDLE_PX = 14;

class Stage {
  /** on: {hover(x, y), tap(x, y), line(a, b), split(share)} */
  constructor(element, canvas, on) {
    Object.assign(this, { element, canvas, on, images: [], split: 0.5, comparing: false, drawing: false });
    this.size = [1, 1];
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.cursor = null;
    this.line = null;
    this.mark = null;
    this.pointers = new Map();
    new ResizeObserver(() => this.draw()).observe(element);
    for (const [name, handler] of Object.entries({
      pointerdown: this.down, pointermove: this.move, pointerup: this.up, pointercancel: this.up, wheel: this.wheel,
    })) element.addEventListener(name, handler.bind(this), { passive: false });
  }

  reset(width, height) {
    this.size = [width, height];
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.zoom = 1;
    this.centre = [width / 2, height / 2];
    this.cursor = this.line = this.mark = null;
  }

  /** Pixels of the screen for one of the view, and where the view's corner lies. */
  get geometry() {
    const { clientWidth, clientHeight } = this.element, [width, height] = this.size;
    const scale = Math.min(clientWidth / width, clientHeight / height) * this.zoom;
    return { scale, left: clientWidth / 2 - this.centre[0] * scale, top: clientHeight / 2 - this.centre[1] * scale };
  }

  placeOf(event) {
    const box = this.element.getBoundingClientRect(), { scale, left, top } = this.geometry;
    return [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
  }

  inside([x, y]) { return x >= 0 && y >= 0 && x < this.size[0] && y < this.size[1]; }

  zoomBy(factor, [x, y] = this.centre) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor)), kept = this.zoom / zoom;
    this.centre = [x + (this.centre[0] - x) * kept, y + (this.centre[1] - y) * kept];
    this.zoom = zoom;
    this.moveBy(0, 0);
  }

  moveBy(x, y) {
    const within = (value, size) => Math.min(size * (1 - 0.5 / this.zoom), Math.max(size * 0.5 / this.zoom, value));
    this.centre = [within(this.centre[0] + x, this.size[0]), within(this.centre[1] + y, this.size[1])];
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY * 0.0015), this.placeOf(event));
  }

  nearSplit(event) {
    if (!this.comparing) return false;
    const { scale, left } = this.geometry, box = this.element.getBoundingClientRect();
    return Math.abs(event.clientX - box.left - left - this.split * this.size[0] * scale) < HANDLE_PX;
  }

  down(event) {
    if (!event.isPrimary && this.pointers.size === 0) return;
    this.element.setPointerCapture(event.pointerId);
    const place = this.placeOf(event);
    this.pointers.set(event.pointerId, { last: [event.clientX, event.clientY], moved: 0, place });
    const task = this.nearSplit(event) ? 'split' : this.drawing || event.shiftKey ? 'line' : 'pan';
    this.task = this.pointers.size > 1 ? 'pinch' : task;
    if (this.task === 'line') this.line = [place, place];
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId), place = this.placeOf(event);
    if (!pointer) return this.hover(place);
    const [x, y] = [event.clientX - pointer.last[0], event.clientY - pointer.last[1]];
    pointer.moved += Math.hypot(x, y);
    if (this.task === 'pinch') this.pinch(event, pointer);
    else if (this.task === 'split') this.splitAt(place[0] / this.size[0]);
    else if (this.task === 'line') {
      this.line = [pointer.place, place];
      this.draw();
      this.on.line(...this.line);
    } else if (this.zoom > 1 && pointer.moved > 4) this.moveBy(-x / this.geometry.scale, -y / this.geometry.scale);
    pointer.last = [event.clientX, event.clientY];
    this.hover(place);
  }

  pinch(event, pointer) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (!other) return;
    const before = Math.hypot(pointer.last[0] - other.last[0], pointer.last[1] - other.last[1]);
    const now = Math.hypot(event.clientX - other.last[0], event.clientY - other.last[1]);
    if (before > 0 && now > 0) this.zoomBy(now / before, this.placeOf(event));
  }

  up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!pointer || event.type === 'pointercancel') return;
    if (pointer.moved < 5 && this.task === 'pan') {
      const place = this.placeOf(event);
      this.hover(place);
      if (this.inside(place)) this.on.tap(...place);
    }
  }

  hover(place) {
    if (!this.inside(place)) return;
    this.cursor = place;
    this.on.hover(...place);
    this.draw();
  }

  splitAt(share) {
    this.split = Math.min(1, Math.max(0, share));
    this.on.split(this.split);
    this.draw();
  }

  /** Ask for a drawing before the next picture of the screen. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawNow();
    });
  }

  drawNow() {
    const ratio = window.devicePixelRatio || 1, { clientWidth, clientHeight } = this.element;
    const { canvas } = this, context = canvas.getContext('2d');
    canvas.width = Math.round(clientWidth * ratio);
    canvas.height = Math.round(clientHeight * ratio);
    const { scale, left, top } = this.geometry, [width, height] = this.size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.images.forEach((image, number) => {
      if (!image) return;
      context.save();
      if (this.comparing && number === 1) {
        context.beginPath();
        context.rect(left + this.split * width * scale, 0, clientWidth, clientHeight);
        context.clip();
      }
      context.imageSmoothingEnabled = scale * width * ratio < 2 * (image.naturalWidth || image.width);
      context.imageSmoothingQuality = 'high';
      context.drawImage(image, left, top, width * scale, height * scale);
      context.restore();
    });
    const at = ([x, y]) => [left + x * scale, top + y * scale];
    if (this.comparing) this.stroke(context, [[left + this.split * width * scale, top], [left + this.split * width * scale, top + height * scale]]);
    if (this.line) this.stroke(context, this.line.map(at));
    if (this.mark) this.ring(context, at(this.mark), 11);
    if (this.cursor) this.cross(context, at(this.cursor));
  }

  stroke(context, points) {
    for (const [style, width] of [['#000a', 4], ['#fff', 2]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      points.forEach(([x, y]) => context.lineTo(x, y));
      context.stroke();
    }
  }

  ring(context, [x, y], radius) {
    this.stroke(context, Array.from({ length: 33 }, (_, k) => [x + radius * Math.cos(k * Math.PI / 16), y + radius * Math.sin(k * Math.PI / 16)]));
  }

  cross(context, [x, y]) {
    for (const [a, b] of [[[-9, 0], [-3, 0]], [[3, 0], [9, 0]], [[0, -9], [0, -3]], [[0, 3], [0, 9]]]) {
      this.stroke(context, [[x + a[0], y + a[1]], [x + b[0], y + b[1]]]);
    }
  }
}
