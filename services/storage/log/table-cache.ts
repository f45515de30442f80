/** The youngest tables of contents, encoded, by bytes: a fold that keeps up reads no disk. */
export class TableCache {
  readonly #bytesMax: number;
  readonly #tables = new Map<string, Buffer>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(lane: string, sequence: number): Buffer | undefined {
    return this.#tables.get(`${lane}/${sequence}`);
  }

  set(lane: string, sequence: number, table: Buffer): void {
    const key = `${lane}/${sequence}`;
    if (this.#tables.has(key) || table.length > this.#bytesMax) return;
    this.#tables.set(key, alone(table));
    this.#bytes += table.length;
    for (const [oldest, bytes] of this.#tables) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#tables.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }
}

/**
 * A small buffer is a view of a slab of 64 KiB that it keeps alive, all of it: a cache of 64 MiB of tables held 1.3 GB. And whoever
 * hands a view to another thread copies the whole slab.
 */
function alone(table: Buffer): Buffer {
  if (table.buffer.byteLength === table.length) return table;
  const copy = Buffer.allocUnsafeSlow(table.length);
  table.copy(copy);
  return copy;
}
