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
    this.#tables.set(key, table);
    this.#bytes += table.length;
    for (const [oldest, bytes] of this.#tables) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#tables.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }
}
