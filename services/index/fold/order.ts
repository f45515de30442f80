import type { EntryId } from '#proto/storage/v1/log.ts';

/** Ties in the fold are broken by (stamp, lane, sequence, n): as text of fixed widths, so that comparing strings compares entries. */
export const orderOf = (stamp: string, id: EntryId): string =>
  `${stamp}.${id.lane}.${id.sequence.toString(36).padStart(11, '0')}.${id.n.toString(36).padStart(6, '0')}`;

export const idKey = (id: EntryId): string => `${id.lane}/${id.sequence}/${id.n}`;

/** Hybrid logical clock: 12 hex digits of ms since 1970, 4 hex digits of counter. */
export const isStamp = (stamp: string): boolean => /^[0-9a-f]{16}$/.test(stamp);
export const msOfStamp = (stamp: string): number => Number.parseInt(stamp.slice(0, 12), 16);
export const stampOfOrder = (order: string): string => order.slice(0, 16);
