// What became of many files: counts for the summary, and the refusals worth a look.
import type { House } from './command.ts';
import { bytes, number, plural, printable, seconds } from './table.ts';

/** More of one kind are counted, not listed. */
const LISTED_MAX = 20;

export interface Refusal {
  label: string;
  /** Of the server: a code of its error table and its sentence, free of patient data. */
  code: string;
  says: string;
}

export class Outcomes {
  stored = 0;
  bytes = 0;
  noDicom = 0;
  dicomdir = 0;
  /** Of an earlier run, by the journal. */
  earlier = 0;
  refusedEarlier = 0;
  readonly refused: Refusal[] = [];
  refusedCount = 0;
  /** Neither taken nor refused: the same command tries them again. */
  readonly failed: Refusal[] = [];
  failedCount = 0;
  readonly #began = performance.now();

  refuse(refusal: Refusal): void {
    this.refusedCount++;
    if (this.refused.length < LISTED_MAX * 10) this.refused.push(refusal);
  }
  fail(refusal: Refusal): void {
    this.failedCount++;
    if (this.failed.length < LISTED_MAX * 10) this.failed.push(refusal);
  }
  get done(): number {
    return this.stored + this.noDicom + this.dicomdir + this.earlier + this.refusedCount + this.failedCount;
  }
  get clean(): boolean {
    return this.refusedCount === 0 && this.failedCount === 0;
  }

  report(house: House, verb: string, extra: Record<string, unknown> = {}): void {
    const ms = performance.now() - this.#began;
    if (house.json) {
      const { stored, noDicom, dicomdir, earlier, refusedEarlier, refused, refusedCount, failed, failedCount } = this;
      house.printJson({
        stored,
        bytes: this.bytes,
        noDicom,
        dicomdir,
        earlier,
        refusedEarlier,
        refused: refusedCount,
        failed: failedCount,
        refusals: refused,
        failures: failed,
        milliseconds: Math.round(ms),
        ...extra,
      });
      return;
    }
    const rate =
      this.stored > 0 && ms > 0
        ? ` (${number(Math.round((this.stored * 1000) / ms))}/s, ${bytes((this.bytes * 1000) / ms)}/s)`
        : '';
    house.print(`${plural(this.stored, 'instance')} ${verb}, ${bytes(this.bytes)} in ${seconds(ms)}${rate}\n`);
    if (this.earlier > 0) {
      const refused = this.refusedEarlier > 0 ? `, ${number(this.refusedEarlier)} of them refused` : '';
      house.print(`${plural(this.earlier, 'file')} done by an earlier run${refused}\n`);
    }
    if (this.noDicom > 0) house.print(`${plural(this.noDicom, 'file')} skipped: no DICOM\n`);
    if (this.dicomdir > 0) house.print(`${plural(this.dicomdir, 'DICOMDIR')} skipped: an index of other files\n`);
    list(house, 'refused', this.refused, this.refusedCount);
    list(house, 'failed', this.failed, this.failedCount);
  }
}

/** Grouped by what is said of them, the most frequent first. */
function list(house: House, what: string, rows: readonly Refusal[], count: number): void {
  if (count === 0) return;
  house.print(`${plural(count, 'file')} ${what}:\n`);
  const groups = [...Map.groupBy(rows, (row) => `${row.says} (${row.code})`)].sort((a, b) => b[1].length - a[1].length);
  let left = LISTED_MAX;
  for (const [says, members] of groups) {
    house.print(`  ${printable(says)}: ${number(members.length)}\n`);
    const shown = members.slice(0, Math.max(1, Math.min(5, left)));
    for (const { label } of shown) house.print(`    ${printable(label, 160)}\n`);
    if (members.length > shown.length) house.print(`    and ${number(members.length - shown.length)} more\n`);
    left -= shown.length;
  }
  if (count > rows.length) house.print(`  and ${number(count - rows.length)} more\n`);
}
