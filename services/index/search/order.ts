import { hexOf, Tag, vrOf } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import type { SearchRequest } from '#proto/index/v1/index.ts';
import { LEVEL_TAGS } from '../fold/levels.ts';
import { DEPTH, homeOf, type SearchLevel } from './levels.ts';

/**
 * The order of rows: total, so that paging is stable. Studies newest first (study date, then time, then UID), patients by name, series
 * by number, instances by number, each with its UID last. `orderby` replaces the order of its own level: what belongs to studies
 * orders studies, what belongs to series the series within a study.
 *
 * A cursor is the place of a row in that order, so a page goes on behind it whatever was stored or deleted meanwhile.
 */
export type Place = readonly (string | number)[];
export interface OrderKey {
  tag: number; // PATIENT_KEY: of a patient's row
  descending: boolean;
}
/** What parts two patients of one name: their identity. */
export const PATIENT_KEY = 0;
export interface Order {
  /** Of patients at PATIENT level, else of studies. */
  rows: OrderKey[];
  series: OrderKey[];
  instances: OrderKey[];
  /** The rows come in the order of an index: they can be read from anywhere in it. */
  indexed: boolean;
  signature: string;
}

const key = (tag: number, descending = false): OrderKey => ({ tag, descending });

export function orderOf(request: SearchRequest, level: SearchLevel): Order {
  const order: Order = { rows: [], series: [], instances: [], indexed: false, signature: '' };
  if (request.orderBy.length > 16) throw new GantryError('invalid-argument', 'more than 16 attributes to order by');
  for (const { tag, descending } of request.orderBy) {
    const home = homeOf(tag);
    if (DEPTH[home] > DEPTH[level]) throw unordered(tag);
    if (home === 'PATIENT' || home === 'STUDY') {
      if (!(level === 'PATIENT' ? PATIENT_ORDERS : STUDY_ORDERS).has(tag)) throw unordered(tag);
      order.rows.push(key(tag, descending));
    } else if (home === 'SERIES') order.series.push(key(tag, descending));
    else if (INSTANCE_ORDERS.has(tag)) order.instances.push(key(tag, descending));
    else throw unordered(tag);
  }
  order.signature = [`${level} `, ...request.orderBy.map((one) => (one.descending ? '-' : '') + hexOf(one.tag))].join(
    '',
  );
  if (level === 'PATIENT') {
    if (order.rows.length === 0) order.rows.push(key(Tag.PatientName));
    order.rows.push(key(PATIENT_KEY));
  } else if (order.rows.length === 0) {
    order.indexed = true;
    order.rows.push(key(Tag.StudyDate, true), key(Tag.StudyTime, true), key(Tag.StudyInstanceUID, true));
  } else order.rows.push(key(Tag.StudyInstanceUID));
  if (order.series.length === 0) order.series.push(key(Tag.SeriesNumber));
  order.series.push(key(Tag.SeriesInstanceUID));
  if (order.instances.length === 0) order.instances.push(key(Tag.InstanceNumber));
  order.instances.push(key(Tag.SOPInstanceUID));
  return order;
}

const INSTANCE_ORDERS: ReadonlySet<number> = new Set([
  Tag.InstanceNumber,
  Tag.SOPInstanceUID,
  Tag.SOPClassUID,
  Tag.Rows,
  Tag.Columns,
  Tag.NumberOfFrames,
]);

const plain = (tag: number): boolean => vrOf(tag) !== 'SQ';
/** What patients and studies can be ordered by: of their documents what is no sequence. */
export const PATIENT_ORDERS: ReadonlySet<number> = new Set(LEVEL_TAGS.PATIENT.filter(plain));
export const STUDY_ORDERS: ReadonlySet<number> = new Set([
  ...PATIENT_ORDERS,
  ...LEVEL_TAGS.STUDY.filter(plain),
  Tag.StudyInstanceUID,
  Tag.NumberOfStudyRelatedInstances,
  Tag.NumberOfStudyRelatedSeries,
  Tag.ModalitiesInStudy,
]);

const unordered = (tag: number): GantryError =>
  new GantryError('invalid-argument', `rows cannot be ordered by ${hexOf(tag)}`, { offendingElements: [tag] });

/** Stores compare text by its bytes; so do we, or a cursor would stand elsewhere than its row. */
export function comparePlaces(a: Place, b: Place, keys: readonly OrderKey[]): number {
  for (let n = 0; n < keys.length; n++) {
    const [left, right] = [a[n] ?? '', b[n] ?? ''];
    if (left === right) continue;
    const below =
      typeof left === 'string' && typeof right === 'string'
        ? Buffer.compare(Buffer.from(left), Buffer.from(right)) < 0
        : typeof left === 'number' && typeof right === 'number'
          ? left < right
          : typeof left === 'number';
    return below !== keys[n]!.descending ? -1 : 1;
  }
  return 0;
}

/** Text, but a number where it is one; what is none comes last. */
export function numberPlace(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isNaN(value) ? Number.MAX_VALUE : value;
}

export interface Cursor {
  row: Place;
  series?: Place;
  instance?: Place;
}

export function encodeCursor(order: Order, cursor: Cursor): string {
  const places = [order.signature, cursor.row, cursor.series, cursor.instance].filter((place) => place !== undefined);
  return Buffer.from(JSON.stringify(places)).toString('base64url');
}

/** A cursor belongs to the order that it came from; anything else is a mistake of the caller's. */
export function decodeCursor(order: Order, text: string): Cursor | undefined {
  if (text === '') return undefined;
  const bad = () => new GantryError('invalid-argument', 'the cursor is not one of this order of rows');
  if (text.length > 4096) throw bad();
  let places: unknown;
  try {
    places = JSON.parse(Buffer.from(text, 'base64url').toString());
  } catch {
    throw bad(); // whatever it was, it was no cursor of ours
  }
  if (!Array.isArray(places) || places[0] !== order.signature || places.length > 4) throw bad();
  const place = (at: number, keys: readonly OrderKey[]): Place | undefined => {
    const value: unknown = places[at];
    if (value === undefined) return undefined;
    const fits =
      Array.isArray(value) &&
      value.length === keys.length &&
      value.every((one) => typeof one === 'string' || typeof one === 'number');
    if (!fits) throw bad();
    return value as Place;
  };
  const row = place(1, order.rows);
  if (!row) throw bad();
  const [series, instance] = [place(2, order.series), place(3, order.instances)];
  return { row, ...(series && { series }), ...(instance && { instance }) };
}
