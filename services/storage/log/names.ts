import { createHash } from 'node:crypto';
import { GantryError } from '#platform/errors.ts';
import type { Instance, Position } from '#proto/storage/v1/log.ts';

/**
 * The names under which `tar tvf` shows a hospital's instances. Received UIDs are opaque (PS3.5 §9.1 is often broken in the field, and
 * `..` is made of dots): only a UID of digits with single dots between them names a file; any other is named by its digest.
 */
export function fileNameOf(uid: string): string {
  return uid.length <= 64 && /^[0-9]+(\.[0-9]+)*$/.test(uid)
    ? uid
    : `uid-${createHash('sha256').update(uid, 'utf8').digest('hex').slice(0, 40)}`;
}

export function instanceFileName(instance: Instance): string {
  const version = instance.version.subarray(0, 4).toString('hex').padStart(8, '0');
  return `${fileNameOf(instance.studyInstanceUid)}/${fileNameOf(instance.seriesInstanceUid)}/${fileNameOf(instance.sopInstanceUid)}.${version}.dcm`;
}

/** Sixteen digits: 2^53 fits, and names sort as numbers do. */
export const padSequence = (sequence: number): string => String(sequence).padStart(16, '0');

export const tocFileName = (sequence: number): string => `.gantry/${padSequence(sequence)}.toc`;
export const controlFileName = (sequence: number, n: number, kind: string): string =>
  `.gantry/${padSequence(sequence)}.${n}.${kind}.json`;
export const sequenceOfToc = (name: string): number | undefined => {
  const match = /^\.gantry\/(\d{16})\.toc$/.exec(name);
  return match ? Number(match[1]) : undefined;
};

export const lanePrefix = (tenant: string, lane: string): string => `log/${tenant}/${lane}`;
export const segmentKey = (tenant: string, lane: string, first: number, thinned = false): string =>
  `${lanePrefix(tenant, lane)}/${padSequence(first)}${thinned ? '.toc' : ''}.tar`;

/** `0000000000000001.tar`, or `….toc.tar` for a thinned one. */
export function parseSegmentName(name: string): { first: number; thinned: boolean } | undefined {
  const match = /^(\d{16})(\.toc)?\.tar$/.exec(name);
  return match && Number(match[1]) > 0 ? { first: Number(match[1]), thinned: match[2] !== undefined } : undefined;
}

export const isLane = (name: string): boolean => /^[0-9A-HJKMNP-TV-Z]{26}$/.test(name);

/** A tenant is part of every key: no dots, no slashes, nothing that a file system or a bucket reads its own way. */
export function checkTenant(tenant: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(tenant))
    throw new GantryError('invalid-argument', 'a tenant is named by 1–64 letters, digits, - and _');
  return tenant;
}

const OBJECT_KEY = /^(log|pack|large)\/[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){1,4}$/;

/** Keys come in with places, from callers: a key of another tenant, or one that climbs, is simply not there. */
export function checkObjectKey(object: string, tenant?: string): string {
  if (!OBJECT_KEY.test(object) || (tenant !== undefined && object.split('/')[1] !== tenant))
    throw new GantryError('not-found', 'no such object in this archive');
  return object;
}

/** Of the known lanes those that a reading is to give, in order: all, or the named ones and those that are not smaller than `since`. */
export function wantedLanes(known: Iterable<string>, named: readonly string[], since: string | undefined): string[] {
  if (named.length === 0 && since === undefined) return [...known].sort();
  const names = new Set(named);
  const wanted: string[] = [];
  for (const lane of known) if (names.has(lane) || (since !== undefined && lane >= since)) wanted.push(lane);
  return wanted.sort();
}

/** Where these lanes have come to; `since`: without those that have ended and whose name is smaller. */
export function headsOf(
  lanes: Iterable<{ lane: string; head: number; closed: boolean }>,
  since: string | undefined,
): Position[] {
  const heads: Position[] = [];
  for (const { lane, head, closed } of lanes)
    if (head > 0 && (since === undefined || !closed || lane >= since)) heads.push({ lane, sequence: head });
  return heads;
}
