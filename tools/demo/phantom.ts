// Pictures for the samples, computed: the same pixels on every machine, nobody's patient.

/** A value in 0..1 for a place: noise that needs no state, so that slices can be made in any order. */
function noise(x: number, y: number, z: number): number {
  let n = (x * 374761393 + y * 668265263 + z * 2147483647) | 0;
  n = Math.imul(n ^ (n >>> 13), 1274126177);
  return ((n ^ (n >>> 16)) >>> 0) / 0xffffffff;
}

const inside = (x: number, y: number, cx: number, cy: number, rx: number, ry: number) =>
  ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1;

/** One axial slice of a chest, in Hounsfield units; z from 0 (feet) to 1 (head), x and y from -1 to 1 (left, posterior). */
function chestAt(x: number, y: number, z: number): number {
  const width = 0.82 - 0.18 * Math.max(0, z - 0.75) * 4;
  if (!inside(x, y, 0, 0, width, 0.58)) return inside(x, y, 0, 0.72, 0.95, 0.06) ? -150 : -1000; // the table, air
  if (!inside(x, y, 0, 0, width - 0.05, 0.53)) return -90; // fat
  if (inside(x, y, 0, 0.36, 0.1, 0.1)) return inside(x, y, 0, 0.37, 0.04, 0.04) ? 30 : 480; // vertebra, spinal canal
  // Ribs: a ring, cut by the slice.
  const ring = Math.abs(Math.hypot(x / (width - 0.1), y / 0.47) - 1);
  if (ring < 0.05 && Math.sin(Math.atan2(y, x) * 7 + z * 22) > 0.25) return 600;
  // The lungs grow and shrink along the body.
  const lung = Math.sin(Math.PI * Math.min(1, z * 0.9 + 0.18));
  for (const side of [-1, 1]) {
    if (inside(x, y, side * 0.38, 0.02, 0.26 * lung, 0.38 * lung)) {
      // A nodule that is seen on five slices of the right lung: something to find when scrolling.
      if (side === -1 && Math.hypot(x + 0.42, y - 0.08, (z - 0.55) * 1.2) < 0.08) return 60;
      // Vessels.
      const vessel = Math.sin(x * 31 + z * 9) * Math.sin(y * 27 - z * 7);
      return vessel > 0.93 ? 20 : -820;
    }
  }
  if (inside(x, y, 0.08, -0.14, 0.2 * lung + 0.04, 0.2))
    return 55 + 120 * Math.max(0, 0.4 - Math.hypot(x - 0.08, y + 0.14)); // heart, contrast
  if (inside(x, y, 0.1, 0.22, 0.05, 0.05)) return 190; // aorta
  return 40;
}

/** CT: 12 bits stored in 16, unsigned; stored value = HU + 1024. */
export function ctSlice(size: number, z: number, index: number): Uint8Array {
  const pixels = new Uint16Array(size * size);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const x = (column / (size - 1)) * 2 - 1;
      const y = (row / (size - 1)) * 2 - 1;
      const hu = chestAt(x, y, z) + (noise(column, row, index) - 0.5) * 24;
      pixels[row * size + column] = Math.max(0, Math.min(4095, Math.round(hu + 1024)));
    }
  }
  // A grey scale from black to white along the lower edge: what a reader checks a display with.
  for (let row = size - 10; row < size - 4; row++) {
    for (let column = 32; column < size - 32; column++) {
      pixels[row * size + column] = Math.round(1024 - 160 + ((column - 32) / (size - 65)) * 400);
    }
  }
  return new Uint8Array(pixels.buffer);
}

/** MR, T2-like head: bright fluid, grey brain, dark skull; 12 bits in 16. */
export function mrSlice(size: number, z: number, index: number): Uint8Array {
  const pixels = new Uint16Array(size * size);
  const scale = Math.sqrt(Math.max(0.05, 1 - (z * 2 - 1) ** 2 * 0.7));
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const x = ((column / (size - 1)) * 2 - 1) / scale;
      const y = ((row / (size - 1)) * 2 - 1) / scale;
      let value = 8;
      if (inside(x, y, 0, 0, 0.72, 0.88)) value = 420; // scalp
      if (inside(x, y, 0, 0, 0.67, 0.83)) value = 40; // skull
      if (inside(x, y, 0, 0, 0.62, 0.78)) {
        const fold = Math.sin(Math.atan2(y, x) * 18 + Math.hypot(x, y) * 14);
        value = Math.hypot(x / 0.62, y / 0.78) > 0.82 && fold > 0.3 ? 1500 : 620 + 120 * fold; // sulci, cortex
        if (Math.hypot(x / 0.62, y / 0.78) < 0.72) value = 480; // white matter
        for (const side of [-1, 1]) if (inside(x, y, side * 0.13, -0.05 + 0.1 * z, 0.08, 0.26)) value = 1850; // ventricles
      }
      pixels[row * size + column] = Math.max(0, Math.round(value + (noise(column, row, index) - 0.5) * 60));
    }
  }
  return new Uint8Array(pixels.buffer);
}

/** Ultrasound: a fan with a chamber that beats; 8 bits, all frames one after the other. */
export function usFrames(columns: number, rows: number, frames: number): Uint8Array {
  const pixels = new Uint8Array(columns * rows * frames);
  for (let frame = 0; frame < frames; frame++) {
    const beat = 0.5 + 0.5 * Math.sin((frame / frames) * 2 * Math.PI);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const x = (column - columns / 2) / rows;
        const y = row / rows;
        const depth = Math.hypot(x, y);
        let value = 0;
        if (depth > 0.06 && depth < 0.97 && Math.abs(Math.atan2(x, y)) < 0.72) {
          value = 50 + 90 * noise(column >> 1, row >> 1, frame) * (1 - depth * 0.5);
          const wall = Math.hypot(x / (0.16 + 0.06 * beat), (y - 0.52) / (0.22 + 0.05 * beat));
          if (wall < 1) value = 6;
          else if (wall < 1.18) value = 190;
        }
        pixels[(frame * rows + row) * columns + column] = Math.min(255, value);
      }
    }
  }
  return pixels;
}

/** A projection (CR): the chest summed along y, with a marker that tells left; 12 bits in 16, MONOCHROME1 (bone is low). */
export function crImage(size: number): Uint8Array {
  const pixels = new Uint16Array(size * size);
  const depths = Array.from({ length: 24 }, (_, i) => -0.69 + i * 0.06);
  for (let row = 0; row < size; row++) {
    const z = 1 - row / (size - 1);
    for (let column = 0; column < size; column++) {
      const x = (column / (size - 1)) * 2 - 1;
      let thickness = 0;
      for (const y of depths) thickness += Math.max(0, chestAt(x, y, z) + 1000);
      pixels[row * size + column] = Math.max(
        0,
        Math.min(4095, Math.round(4000 - thickness / 9 + (noise(column, row, 7) - 0.5) * 30)),
      );
    }
  }
  // "L" in lead, at the patient's left (the picture's right).
  for (let row = 0; row < 40; row++) {
    for (let column = 0; column < 26; column++) {
      if (column < 8 || row >= 32) pixels[(row + 24) * size + size - 60 + column] = 0;
    }
  }
  return new Uint8Array(pixels.buffer);
}

/** A PDF of one page that says what it is. */
export function pdf(lines: string[]): Uint8Array {
  const text = lines.map((line) => `(${line.replace(/[\\()]/g, '\\$&')}) Tj T*`).join('\n');
  const content = `BT /F1 14 Tf 18 TL 60 760 Td\n${text}\nET`;
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>',
    `<< /Length ${content.length} >>\nstream\n${content}\nendstream`,
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
  ];
  let file = '%PDF-1.4\n';
  const offsets = objects.map((object, i) => {
    const offset = file.length;
    file += `${i + 1} 0 obj\n${object}\nendobj\n`;
    return offset;
  });
  const rows = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  file += `xref\n0 6\n0000000000 65535 f \n${rows}trailer << /Size 6 /Root 1 0 R >>\nstartxref\n${file.length}\n%%EOF\n`;
  return Buffer.from(file, 'latin1');
}
