import { type Correction, correct, correctionsFor, identify, type Merge } from '../fold/correct.ts';
import { compactableOf, inLog, orderOfRecord, viewSeries } from '../fold/instance.ts';
import type { EntryRecord, JsonAttributes, VersionPolicy } from '../fold/types.ts';
import type { EffectiveVariant } from './variants.ts';

/** What a series says above its entries: counts, and the distinct sets of attributes that its live instances carry. */
export class SeriesSums {
  readonly seriesInstanceUid: string;
  firstOrder = '';
  instances = 0;
  bytes = 0;
  trashInstances = 0;
  trashBytes = 0;
  conflicts = 0;
  compactable = 0;
  revision = 0;
  /** As the headers said; a record's `variant` is an index into it. */
  raw: JsonAttributes[] = [];
  /** What the live instances carry, corrections and merges laid over. */
  effective: EffectiveVariant[] = [];
  /** The set of effective variants, or which is first, has changed: rows above must be written anew. */
  docChanged = true;
  #rawIndex = new Map<string, number>();
  #last: { attributes: JsonAttributes; index: number } | undefined;

  constructor(seriesInstanceUid: string) {
    this.seriesInstanceUid = seriesInstanceUid;
  }

  takeVariants({ raw, effective }: { raw: JsonAttributes[]; effective: EffectiveVariant[] }): void {
    this.raw = raw;
    this.effective = effective;
    this.#rawIndex = new Map(raw.map((attributes, index) => [JSON.stringify(attributes), index]));
    this.#last = undefined;
    this.docChanged = false;
  }

  variantOf(attributes: JsonAttributes): number {
    // Mostly the very object of the instance before (fold/describe.ts).
    if (attributes === this.#last?.attributes) return this.#last.index;
    const index = this.#indexOf(attributes);
    this.#last = { attributes, index };
    return index;
  }

  #indexOf(attributes: JsonAttributes): number {
    const text = JSON.stringify(attributes);
    let index = this.#rawIndex.get(text);
    if (index === undefined) {
      this.#rawIndex.set(text, (index = this.raw.length));
      this.raw.push(attributes);
    }
    return index;
  }

  /** A SOP instance that the series did not have, about which nothing was said: what `recompute` would find, without looking. */
  addFresh(record: EntryRecord, merges: ReadonlyMap<string, Merge>): void {
    const order = orderOfRecord(record);
    this.instances++;
    this.bytes += record.place.length;
    if (inLog(record)) this.compactable++;
    let effective = this.effective.find((one) => one.variant === record.variant);
    if (!effective) {
      effective = { order, variant: record.variant, attributes: identify(this.raw[record.variant]!, merges) };
      this.effective.push(effective);
      this.docChanged = true;
    } else if (order < effective.order) {
      effective.order = order;
      this.docChanged = true;
    }
    if (this.firstOrder === '' || order < this.firstOrder) this.firstOrder = order;
  }

  /** From the entries alone: the path for everything but fresh instances. */
  recomputeFrom(
    records: readonly EntryRecord[],
    policy: VersionPolicy,
    corrections: readonly Correction[],
    merges: ReadonlyMap<string, Merge>,
  ): void {
    this.instances = this.bytes = this.trashInstances = this.trashBytes = this.conflicts = this.compactable = 0;
    this.firstOrder = '';
    this.effective = [];
    this.docChanged = true;
    const own = corrections.filter(
      (one) => one.seriesInstanceUid === '' || one.seriesInstanceUid === this.seriesInstanceUid,
    );
    const corrected = new Set(own.map((one) => one.sopInstanceUid));
    const byVariant = new Map<number, EffectiveVariant>();
    for (const view of viewSeries(records, policy)) {
      if (view.trashed.length > 0) this.trashInstances++;
      for (const one of view.trashed) this.trashBytes += one.place.length;
      if (view.conflict) this.conflicts++;
      this.compactable += compactableOf(view);
      const { shown } = view;
      if (!shown) continue;
      this.instances++;
      this.bytes += shown.place.length;
      const order = orderOfRecord(shown);
      if (this.firstOrder === '' || order < this.firstOrder) this.firstOrder = order;
      const alone = corrected.has(shown.sopInstanceUid);
      const known = alone ? undefined : byVariant.get(shown.variant);
      if (known) {
        if (order < known.order) known.order = order;
        continue;
      }
      const over = correctionsFor(own, this.seriesInstanceUid, alone ? shown.sopInstanceUid : '');
      const attributes = identify(correct(this.raw[shown.variant]!, over), merges);
      const effective: EffectiveVariant = { order, attributes };
      if (over.length === 0) effective.variant = shown.variant;
      if (!alone) byVariant.set(shown.variant, effective);
      this.effective.push(effective);
    }
  }
}
