import { UNCORRECTABLE } from './levels.ts';
import type { JsonAttributes } from './types.ts';

/** An overlay entry as the fold keeps it; empty UIDs: it holds for the whole level above. */
export interface Correction {
  order: string;
  seriesInstanceUid: string;
  sopInstanceUid: string;
  attributes: JsonAttributes;
}

/** The corrections of a study that hold for one instance, the oldest first: the last word on an attribute wins, whatever its level. */
export function correctionsFor(
  corrections: readonly Correction[],
  seriesInstanceUid: string,
  sopInstanceUid: string,
): Correction[] {
  return corrections
    .filter(
      (one) =>
        (one.seriesInstanceUid === '' || one.seriesInstanceUid === seriesInstanceUid) &&
        (one.sopInstanceUid === '' || one.sopInstanceUid === sopInstanceUid),
    )
    .sort((a, b) => (a.order < b.order ? -1 : 1));
}

/** Lays corrections over attributes; the original stays what it is. */
export function correct(attributes: JsonAttributes, corrections: readonly Correction[]): JsonAttributes {
  if (corrections.length === 0) return attributes;
  const corrected = { ...attributes };
  for (const { attributes: over } of corrections)
    for (const [key, element] of Object.entries(over)) if (!UNCORRECTABLE.has(key)) corrected[key] = element;
  return corrected;
}

export interface PatientIdentity {
  patientId: string;
  issuer: string;
}
export interface Merge {
  order: string;
  from: PatientIdentity;
  to: PatientIdentity;
}

export const patientKey = ({ patientId, issuer }: PatientIdentity): string => `${patientId}\u0000${issuer}`;

/** Where a patient's studies are shown now: the last merge away from each patient holds, chains are followed, a circle ends where it began. */
export function resolvePatient(identity: PatientIdentity, merges: ReadonlyMap<string, Merge>): PatientIdentity {
  const walked = new Set<string>();
  let now = identity;
  for (;;) {
    const key = patientKey(now);
    if (walked.has(key)) return now;
    walked.add(key);
    const merge = merges.get(key);
    if (!merge) return now;
    now = merge.to;
  }
}

/** By what they lead away from. `kind` other than merge (a link) joins nothing. */
export function lastMerges(merges: Iterable<Merge>): Map<string, Merge> {
  const last = new Map<string, Merge>();
  for (const merge of merges) {
    const key = patientKey(merge.from);
    const known = last.get(key);
    if (!known || known.order < merge.order) last.set(key, merge);
  }
  return last;
}

/** Every Patient ID that merges speak of, superseded ones too: a study may still stand where one of those has led it. */
export function patientIdsOf(merges: Iterable<Merge>): Set<string> {
  const ids = new Set<string>();
  for (const { from, to } of merges) ids.add(from.patientId).add(to.patientId);
  return ids;
}

/** Attributes as they read once a merge holds. An empty Patient ID is nobody's, and is never merged. */
export function identify(attributes: JsonAttributes, merges: ReadonlyMap<string, Merge>): JsonAttributes {
  if (merges.size === 0) return attributes;
  const from = identityOf(attributes);
  if (from.patientId === '') return attributes;
  const to = resolvePatient(from, merges);
  if (patientKey(to) === patientKey(from)) return attributes;
  const identified: JsonAttributes = { ...attributes, '00100020': { vr: 'LO', Value: [to.patientId] } };
  if (to.issuer === '') delete identified['00100021'];
  else identified['00100021'] = { vr: 'LO', Value: [to.issuer] };
  return identified;
}

export const identityOf = (attributes: JsonAttributes): PatientIdentity => ({
  patientId: text(attributes['00100020']?.Value?.[0]),
  issuer: text(attributes['00100021']?.Value?.[0]),
});
const text = (value: unknown): string =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';
